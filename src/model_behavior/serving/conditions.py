"""Conditional requests: who changes something says which version of it he has seen (RFC 9110, section 13.1.1)."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

IfMatch = Annotated[
    str | None, Header(max_length=1000, description="The ETag of what is changed; 412 where it is another one by now.")
]


def etag(version: str) -> str:
    """The header of a version."""
    return f'"{version}"'


def read_if_match(header: str | None) -> frozenset[str] | None:
    """The versions one of which must be the current one; None where any will do. Weak tags match nothing."""
    tags = [tag.strip() for tag in (header or "*").split(",")]
    if tags == ["*"]:
        return None
    return frozenset(tag[1:-1] for tag in tags if len(tag) > 1 and tag[0] == tag[-1] == '"')
