"""schemathesis reads the OpenAPI document and attacks the real daemon with what it allows, and what it does not."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from runnerd.http.openapi import document
from tests.integration.test_webhooks import WEBHOOK, create_key
from tests.support.scene import Scene, Stage, puppet

pytestmark = pytest.mark.integration

Case: TypeAlias = "schemathesis.Case[Any]"
Target: TypeAlias = tuple[Scene, str, str]
SCHEMA = schemathesis.openapi.from_dict(document()).exclude(path="/v1/events")  # an answer without an end
CHECKS = [
    schemathesis.checks.not_a_server_error, status_code_conformance, content_type_conformance,
    response_schema_conformance, response_headers_conformance, unsupported_method,
]  # fmt: skip


@pytest.fixture(scope="module")
def target(stage: Stage) -> Iterator[tuple[Scene, str, str]]:
    """A daemon, its address, and a key; the puppet does not understand most of what it gets, which is its part."""
    with stage.scene({"puppet": puppet(triggers=WEBHOOK)}, http={"requests_per_s": 100_000}) as scene:
        key = create_key(scene, "tester", "puppet")
        yield scene, str(scene.daemon.status().http), key


@SCHEMA.parametrize()
@settings(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)  # fmt: skip
def test_every_answer_is_one_that_the_document_names(case: Case, target: Target) -> None:
    """Statuses, bodies, headers and methods; with a good key, for a plugin that is there half of the time."""
    _, address, key = target
    if case.path_parameters and "plugin" in case.path_parameters and len(str(case.path_parameters["plugin"])) % 2:
        case.path_parameters["plugin"] = "puppet"
    if case.query and "wait" in case.query:
        case.query["wait"] = "0"
    case.call_and_validate(
        base_url=address, checks=CHECKS, headers={"Authorization": f"Bearer {key}"}, timeout=20,
    )  # fmt: skip


@SCHEMA.parametrize()
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_without_a_key_every_answer_is_a_refusal(case: Case, target: Target) -> None:
    """401, or 404 or 405 for what is no operation; nothing gets past."""
    _, address, _ = target
    case.headers.pop("Authorization", None)
    case.headers.pop("X-Runnerd-Signature", None)
    response = case.call(base_url=address, timeout=20)
    assert response.status_code in (400, 401, 404, 405), response.text


def test_it_lived_through_it(target: tuple[Scene, str, str]) -> None:
    """After all of that: one http process, no defect in the log, and the plugin is still called."""
    scene, _, _ = target
    assert scene.log("http_failed") == []
    assert scene.log("service_failed") == []
    assert scene.log("http_record_refused") == []
    assert scene.fire("puppet", do="noop").call_id > 0
