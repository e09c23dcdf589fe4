"""`python -m model_behavior`."""

from model_behavior.cli.entry import main

if __name__ == "__main__":
    main()
