"""Generated requests to every route: answers are as OpenAPI says, and nothing fails inside."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from model_behavior.serving.app import build_app
from model_behavior.serving.backend import build_backend
from model_behavior.serving.service import Service
from model_behavior.serving.settings import Limits, ServeSettings

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
HOST = {"Host": "127.0.0.1"}
BOUNDED = settings(
    max_examples=10,
    database=None,
    derandomize=True,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def schema(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("schema") / "arena")
    limits = Limits(requests_per_second=100_000)
    app = build_app(build_backend(Service(folder), ServeSettings(limits=limits)))
    return schemathesis.openapi.from_asgi("/openapi.json", app, headers=HOST)


def test_generated_requests_are_answered_as_documented(schema: Any) -> None:
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 19
    answered: set[str] = set()
    refused: set[str] = set()

    for operation in operations:

        @BOUNDED
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            response = case.call(headers=HOST)
            case.validate_response(response, checks=CHECKS)
            (answered if response.status_code < 300 else refused).add(case.operation.label)

        check()
    assert len(answered) >= 10 and len(refused) >= 10, (answered, refused)
