"""The models as a table, for other programs such as embedding-atlas."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import APIRouter, Response

from model_behavior.serving.backend import Backend
from model_behavior.serving.documented import KEY, refusals
from model_behavior.serving.service import Service

_MEDIA_TYPE = "application/vnd.apache.parquet"
_ANSWER: dict[str, Any] = {
    "description": "One row a model.",
    "content": {_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
}


def make_router(backend: Backend) -> APIRouter:
    """The route."""
    router = APIRouter(prefix="/v1", tags=["catalog"], dependencies=[KEY])

    @router.get("/models.parquet", response_class=Response, responses={**refusals(409), 200: _ANSWER})
    async def export_models() -> Response:
        """All models with place on the map, rating and embedding, as Parquet."""
        content = await backend.ask(backend.quick, lambda: make_parquet(backend.service))
        headers = {"Content-Disposition": 'attachment; filename="models.parquet"'}
        return Response(content, media_type=_MEDIA_TYPE, headers=headers)

    return router


def make_parquet(service: Service) -> bytes:
    """One row a model, best rating first: columns of `ModelRow`, `x`, `y`, and `embedding`, fixed_size_list<float>.

    Raises:
        NotPossibleError: fewer than three models, which make no map.
    """
    snapshot = service.snapshot
    embeddings = snapshot.artifact.models.mean
    rows = []
    for point in service.map().models:
        row = snapshot.rows[point.name]
        vector = embeddings[snapshot.index_of(point.name)].tolist()
        rows.append({**vars(row), "x": point.x, "y": point.y, "embedding": vector})
    table = pa.Table.from_pylist(rows)
    place = table.schema.get_field_index("embedding")
    sized = table.column("embedding").cast(pa.list_(pa.float32(), embeddings.shape[1]))
    buffer = io.BytesIO()
    pq.write_table(table.set_column(place, "embedding", sized), buffer, compression="zstd")
    return buffer.getvalue()
