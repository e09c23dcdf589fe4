"""The service over a trained artifact, and the page.

views.py        answers of the API: frozen dataclasses
snapshot.py     immutable state of the catalog, prepared for questions
answers.py      answers computed from a snapshot
uploads.py      reading of uploaded responses
upload_process.py  the same in a process of its own, with limits on memory and time
service.py      questions to the catalog, and changes of it
page/           the page: HTML, style sheets, modules
page_files.py   its files, for the server by name and as one HTML file
static_page.py  the page as a file, whole or the map alone, with the answers that it needs

All of these work without the extra `serve`, and so do

keys.py         API keys, kept as hashes
problems.py     errors as HTTP responses
upstreams.py    OpenAI-compatible services that chat completions are sent to
settings.py     settings of the service: address, limits

What only `serve` runs, which needs the extra:

schemas.py      request bodies
lanes.py        threads with bounded queues: one for quick answers, one for slow ones
metrics.py      metrics for Prometheus
connections.py  connections with deadlines, and room for newcomers
conversations.py  which model answers a conversation
relay.py        one call of an upstream, whose answer is checked as it passes
chat.py         chat completions, sent to the best model that answers
backend.py      state shared by the routes
receiving.py    receiving of uploads
guard.py        middleware: authentication, limits, headers, log
routes.py       the routes
app.py          the application, and the process around it
"""
