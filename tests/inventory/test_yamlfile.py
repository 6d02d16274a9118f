import pytest

from inventory.yamlfile import YamlProblemError, parse_yaml


@pytest.mark.parametrize(
    "text",
    ["a: !!bool x", "a: !!int ''", "a: !!timestamp x", "a: 2027-09-31", "a: 1\na: 2", "[" * 5000, "a: [", "? [a]\n: b"],
)
def test_whatever_is_wrong_is_one_kind_of_error(text: str) -> None:
    """Tags on what cannot be one, days that do not exist, keys given twice, nonsense: each is a YamlProblemError."""
    with pytest.raises(YamlProblemError):
        parse_yaml(text)
