"""The matrix of docs/translation.md is what the tests measured, and whole."""

from __future__ import annotations

from tests.translation import declared, matrix


def test_every_declared_model_was_measured_and_every_cell_has_a_model_or_a_reason() -> None:
    assert matrix.missing() == []


def test_the_page_shows_what_was_measured() -> None:
    assert matrix.PAGE.read_text() == matrix.page(), "run make translation-matrix"


def test_a_refusal_that_was_declared_is_a_refusal_that_was_measured() -> None:
    measured = matrix.results()
    for name, model in declared.models().items():
        assert ("refused" in measured[name]) == (model.refused is not None), name
