"""The service over a trained artifact.

views.py, view_making.py   what is answered: frozen dataclasses, and how they are made
snapshot.py, service.py    one catalog, prepared; the catalog over time
route_finding.py, uploads.py   questions and files that take some reading. No web framework up to here
schemas.py                 what clients send
app.py, *_routes.py        both as HTTP (receiving.py: uploads, conditions.py: If-Match)
guard.py, keys.py, limits.py, lanes.py, batching.py, pulse.py, metrics.py   who may ask, and how much
refusals.py, problems.py   how refusals look
upstreams.py, chat.py      OpenAI-compatible chat completions, routed
settings.py, server.py     configuration, and the process
load_client.py, load_test.py, load_report.py   the service under load
page/                      the page, static files
"""
