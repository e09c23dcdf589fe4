"""The service over a trained artifact, and the page.

views.py        what is answered: frozen dataclasses
snapshot.py     one catalog with everything prepared that questions need; it never changes
answers.py      from a snapshot to what is answered
uploads.py      responses in an uploaded file
service.py      the catalog over time
page/           the page: HTML, style sheets, modules
page_files.py   its files, for the server by name and as one HTML file
static_page.py  the page as a file, whole or the map alone, with the answers that it needs

All of these work without the extra `serve`, and so do

keys.py         who may ask: keys, kept as hashes
problems.py     refused requests, and how a refusal is answered
upstreams.py    OpenAI-compatible services that chat completions are sent to
settings.py     settings of the service: address, limits

What only `serve` runs, which needs the extra:

schemas.py      what clients send
lanes.py        work off the event loop: a lane for quick answers, one for slow ones
metrics.py      figures for Prometheus
chat.py         chat completions, sent to the best model that answers
backend.py      what the routes share
receiving.py    uploads on their way in
guard.py        what every request passes first, and how every answer leaves
routes.py       the routes
app.py          the application, and the process around it
"""
