"""Generated requests to every route: answers are as OpenAPI says, and nothing fails inside."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from model_behavior.serving.app import build_app
from model_behavior.serving.backend import build_backend
from model_behavior.serving.limits import Limits
from model_behavior.serving.service import Service
from model_behavior.serving.settings import ServeSettings

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]


@pytest.fixture(scope="module")
def schema(trained: Path) -> schemathesis.BaseSchema:
    limits = Limits(requests_per_second=100_000)
    app = build_app(build_backend(Service(trained), ServeSettings(limits=limits)))
    return schemathesis.openapi.from_asgi("/openapi.json", app, base_url="http://127.0.0.1")


def test_generated_requests_are_answered_as_documented(schema: schemathesis.BaseSchema) -> None:
    seen = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.method == "delete" or operation.path == "/v1/models" and operation.method == "post":
            continue
        seen += 1

        @settings(
            max_examples=8,
            database=None,
            derandomize=True,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @schemathesis.given(case=operation.as_strategy()) if False else _given(operation)
        def check(case: schemathesis.Case) -> None:
            response = case.call(headers={"Host": "127.0.0.1"})
            case.validate_response(response, checks=CHECKS)

        check()
    assert seen > 15
