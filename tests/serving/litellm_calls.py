"""Run by LiteLLM's own Python: makes calls through Routers with our plugin, and prints answers and logs as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

import litellm
from model_behavior_litellm import ModelBehaviorRouting, RoutingConfig


class Lines(logging.Handler):
    """What the plugin logs."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def describe(name: str, url: str, named: bool) -> dict[str, Any]:
    return {
        "model_name": "auto",
        "litellm_params": {"model": f"openai/{name}", "api_base": url, "api_key": "none"},
        "model_info": {"model_behavior": name} if named else {},
    }


async def ask(router: litellm.Router, body: dict[str, Any]) -> dict[str, Any]:
    answer = await router.acompletion(model="auto", **body)
    if not body.get("stream"):
        return {"text": answer.choices[0].message.content}
    parts = [chunk async for chunk in answer]
    return {"text": "".join(part.choices[0].delta.content or "" for part in parts), "model": parts[0].model}


async def run(scenario: dict[str, Any]) -> dict[str, Any]:
    lines = Lines()
    logging.getLogger("model_behavior_litellm").addHandler(lines)
    config = RoutingConfig(scenario["key"], scenario.get("timeout", 30.0), pause_seconds=60.0)
    litellm.callbacks.append(ModelBehaviorRouting(scenario["address"], config))
    models = [describe(name, url, scenario.get("named", True)) for name, url in scenario["models"].items()]
    router = litellm.Router(models, num_retries=scenario.get("retries", 0), retry_after=0)
    answers = [await ask(router, body) for body in scenario["bodies"]]
    litellm.callbacks.pop()
    logging.getLogger("model_behavior_litellm").removeHandler(lines)
    return {"answers": answers, "lines": lines.lines}


async def main(scenarios: dict[str, Any]) -> dict[str, Any]:
    return {name: await run(scenario) for name, scenario in scenarios.items()}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.load(sys.stdin)))))
