"""The service over a trained artifact.

views.py, view_making.py   what is answered: frozen dataclasses, and how they are made
snapshot.py, service.py    one catalog, prepared; the catalog over time. No web framework up to here
schemas.py                 what clients send
app.py, *_routes.py        both as HTTP
guard.py, keys.py, limits.py, lanes.py, batching.py, metrics.py   who may ask, and how much
refusals.py, problems.py   how refusals look
upstreams.py, chat.py      OpenAI-compatible chat completions, routed
settings.py, server.py     configuration, and the process
load_client.py, load_test.py, load_report.py   the service under load
page/                      the page, static files
"""
