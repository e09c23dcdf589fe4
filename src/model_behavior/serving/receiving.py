"""Receives uploads: streams a body, or the file of a form, to a temporary file that the service names."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile

from model_behavior.errors import UsageError
from model_behavior.files import temporary_folder
from model_behavior.serving.problems import RefusalError, refusal_of
from model_behavior.serving.uploads import choose_name

_FORM = "multipart/form-data"
_ROW = {"type": "object", "example": {"prompt": "Name a river in France.", "response": "The Loire."}}
UPLOAD_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "Responses as a chat log, JSON lines, JSON, CSV, TSV or Parquet; the content says which.",
        "content": {
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary"},
                "example": '{"prompt": "Name a river in France.", "response": "The Loire."}\n',
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["responses"],
                    "additionalProperties": False,
                    "properties": {"model": {"type": "string"}, "responses": {"type": "array", "items": _ROW}},
                }
            },
            _FORM: {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}, "model": {"type": "string"}},
                }
            },
        },
    }
}
"""OpenAPI description of the body of an upload."""


@asynccontextmanager
async def receive_upload(request: Request, model: str | None) -> AsyncIterator[tuple[Path, str | None]]:
    """Yields the body of a request as a temporary file, and the model that the request names.

    Args:
        request: request whose body is the file itself, or a form (RFC 7578) with `file` and optionally `model`.
        model: model that the address of the request names.

    Raises:
        RefusalError: 400 or 422, the form is invalid.
    """
    with temporary_folder(Path(tempfile.gettempdir()), "model-behavior-received-") as folder:
        path = folder / "received"
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type == _FORM:
            model = await _receive_form(request, path, model)
        else:
            with path.open("wb") as file:
                async for chunk in request.stream():
                    file.write(chunk)
        yield path, model


async def _receive_form(request: Request, path: Path, model: str | None) -> str | None:
    try:
        async with request.form(max_files=1, max_fields=1) as form:
            sent, named = _read_fields(form)
            with path.open("wb") as file:
                await asyncio.to_thread(shutil.copyfileobj, sent.file, file)
            return choose_name(model, named)
    except FormParserError as error:
        raise RefusalError(400, "invalid_request", "the form cannot be read. Fix: curl -F file=@FILE") from error
    except UsageError as error:
        raise refusal_of(error) from error


def _read_fields(form: FormData) -> tuple[UploadFile, str | None]:
    fields = dict(form.multi_items())
    file, model = fields.pop("file", None), fields.pop("model", None)
    if not isinstance(file, UploadFile) or isinstance(model, UploadFile) or fields:
        raise RefusalError(
            422, "invalid_request", "the form has other fields. Allowed: file, a file, and model, a name"
        )
    return file, model
