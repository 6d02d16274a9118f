"""Reading YAML that people wrote: a key given twice is a mistake, and whatever is wrong comes as one kind of error."""

from __future__ import annotations

from typing import Any

import yaml


class YamlProblemError(Exception):
    """What is wrong, and on which line (None: not known)."""

    def __init__(self, what: str, row: int | None) -> None:
        self.what, self.row = what, row
        super().__init__(what)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, except that it refuses keys given twice: the last would win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            try:
                twice = key in seen
                seen.add(key)
            except TypeError:
                continue  # not a key at all; the parent says so
            if twice:
                problem = f"key {key!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        return super().construct_mapping(node, deep=deep)


def parse_yaml(text: str) -> Any:
    """Return what YAML text says.

    Raises:
        YamlProblemError: not YAML, a key twice, or a value that cannot be (a date such as 2027-09-31).
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - built on the safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise YamlProblemError(str(getattr(error, "problem", error)), mark.line + 1 if mark else None) from error
    except (ValueError, LookupError, AttributeError) as error:  # the last two: a tag on what cannot be one (!!bool x)
        raise YamlProblemError(f"a value that cannot be: {error}", None) from error
    except RecursionError as error:
        raise YamlProblemError("nested too deeply", None) from error
