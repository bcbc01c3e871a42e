"""The judgement of what was measured, on the trusted side."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jsonschema
import pytest

from polyshare.errors import Invalid
from polyshare.translation import agreement, certificate
from polyshare.translation.agreement import Answered, Measured, Measures, Output
from polyshare.translation.pipeline import Options


def measures(rows: int = 1000, outside: int = 0, **more: int) -> Measures:
    counts = dict.fromkeys(Measures.__struct_fields__, 0) | {"rows": rows, "rows_outside": outside} | more
    return Measures(**{**counts, "max_absolute": 0.0, "max_relative": 0.0})


def output(outside: int = 0, *, jumps: list[str] | None = None, origin: str = "random", **more: object) -> Output:
    fields = {"name": "y", "role": "values", "method": "predict", "dtype": "float32", "precision": "float32"} | more
    by_origin = {"test": measures(), origin: measures(outside=outside)}
    return Output(**fields, jumps=jumps or [], scale=1.0, by_origin=by_origin, cast=None)  # type: ignore[arg-type]


def measured(*outputs: Output, **answered: Answered) -> Measured:
    return Measured({"random": Answered(1000, 1000, 0, 0), **answered}, [], [], [0.0], list(outputs))


def test_no_row_outside_agrees() -> None:
    assert agreement.judge(measured(output()), agreement.MOST_AFFECTED) == ("agrees", [])


def test_one_row_outside_of_a_continuous_output_disagrees() -> None:
    verdict, reasons = agreement.judge(measured(output(1)), agreement.MOST_AFFECTED)
    assert verdict == "disagrees"
    assert "1 of 2000 rows" in reasons[0]


def test_a_discontinuous_output_is_excepted_by_share_and_not_by_tolerance() -> None:
    assert agreement.judge(measured(output(2, jumps=["TreeEnsembleRegressor"])), 0.001)[0] == "agrees_except"
    assert agreement.judge(measured(output(3, jumps=["TreeEnsembleRegressor"])), 0.001)[0] == "disagrees"
    assert agreement.judge(measured(output(1, jumps=["TreeEnsembleRegressor"])), 0.0)[0] == "disagrees"


def test_a_searched_row_outside_of_a_continuous_output_disagrees() -> None:
    assert agreement.judge(measured(output(1, origin="searched")), 0.001)[0] == "disagrees"


def test_what_a_search_finds_at_jumps_is_reported_and_says_nothing_of_the_share() -> None:
    found = output(500, origin="searched", jumps=["Round"])
    verdict, reasons = agreement.judge(measured(found), 0.001)
    assert verdict == "agrees_except"
    assert "500 of 2000 rows, where Round jumps" in reasons[0]
    found.by_origin["test"] = measures(outside=2)
    assert agreement.judge(measured(found), 0.001)[0] == "disagrees"


def test_classes_are_bounded_for_labels_and_for_scores_without_one() -> None:
    scores = output(role="scores", has_classes=True)
    scores.by_origin["test"] = measures(labels_differ=4)
    (test, random) = agreement.bounds(measured(scores, output(role="values")))
    assert (test.output, test.origin, test.rows, test.agreeing) == ("y", "test", 1000, 996)
    assert random.agreeing == 1000


def test_a_label_beside_continuous_scores_gets_no_share() -> None:
    label = output(1, jumps=["ArgMax"], role="label", dtype="int64")
    scores = output(0, role="scores")
    assert agreement.judge(measured(label, scores), 0.001)[0] == "disagrees"


def test_a_shape_that_differs_disagrees_however_few() -> None:
    one = output(jumps=["TopK"])
    one.by_origin["test"] = measures(outside=1, shape_differs=1)
    assert agreement.judge(measured(one), 0.001)[0] == "disagrees"


@pytest.mark.parametrize("origin", ["extreme", "infinity", "empty"])
def test_rows_that_float_types_answer_differently_are_reported_and_not_judged(origin) -> None:
    assert agreement.judge(measured(output(1000, origin=origin)), 0.001)[0] == "agrees"


def test_missing_values_that_the_native_model_takes_are_judged() -> None:
    assert agreement.judge(measured(output(10, origin="nan")), 0.001)[0] == "disagrees"
    quantised = output(10, origin="nan", nan_open=["QuantizeLinear"])
    assert agreement.judge(measured(quantised), 0.001)[0] == "agrees"


def test_a_native_model_that_answers_little_certifies_nothing() -> None:
    silent = Measured({"random": Answered(1000, 0, 1000, 0)}, ["random: ValueError"], [], [], [output()])
    verdict, reasons = agreement.judge(silent, 0.001)
    assert verdict == "disagrees"
    assert any("refused 1000 of 1000" in reason for reason in reasons)
    assert any("at least 64" in reason for reason in reasons)


def test_a_failure_of_the_runtime_where_the_native_model_answers_disagrees() -> None:
    one = measured(output(), test=Answered(10, 9, 0, 1))
    assert agreement.judge(one, 0.001)[0] == "disagrees"


@pytest.mark.parametrize(("agreeing", "rows"), [(300, 300), (299, 300), (290, 300), (1, 300), (0, 300), (1024, 1024)])
def test_the_bound_is_clopper_pearsons(agreeing, rows) -> None:
    bound = agreement.lower_bound(agreeing, rows)
    if agreeing == rows:
        assert bound == pytest.approx(0.05 ** (1 / rows), abs=2e-9)
    elif agreeing == 0:
        assert bound == 0
    else:  # at the bound, seeing this many or more has probability 5%
        tail = math.fsum(math.comb(rows, k) * bound**k * (1 - bound) ** (rows - k) for k in range(agreeing, rows + 1))
        assert tail == pytest.approx(0.05, abs=1e-5)


def test_tolerances_can_be_tightened_and_never_loosened() -> None:
    tight = Options.from_json({"tolerances": {"float32": {"absolute": 0.0, "relative": 1e-6}}})
    assert tight.tolerances["float32"].relative == 1e-6
    assert tight.tolerances["float64"] == agreement.TOLERANCES["float64"]
    with pytest.raises(Invalid, match="tightened only"):
        Options.from_json({"tolerances": {"float32": {"absolute": 1.0, "relative": 1e-6}}})
    with pytest.raises(Invalid, match="tightened only"):
        Options.from_json({"most_affected": 0.5})
    with pytest.raises(Invalid, match="bfloat8"):
        Options.from_json({"tolerances": {"bfloat8": {"absolute": 0.0, "relative": 0.0}}})


@pytest.mark.parametrize(
    "options",
    [{"opset": 99}, {"opset": "18"}, {"opset": True}, {"dtype": "int8"}, {"rows": 1}, {"colour": 1}, {"tolerances": 3}],
)
def test_options_that_can_not_be_are_refused_by_name(options) -> None:
    with pytest.raises(Invalid, match=next(iter(options))):
        Options.from_json(options)


def test_a_certificate_of_the_first_schema_can_still_be_read() -> None:
    data = Path(__file__).with_name("data").joinpath("certificate-1.json").read_bytes()
    document = certificate.decode(data)
    assert (document.schema, document.verdict) == ("polyshare/agreement/1", "agrees")
    assert document.inputs.searched is document.first_disagreement is None
    jsonschema.validate(json.loads(data), certificate.schema())


def test_the_published_schema_is_the_certificates_own() -> None:
    path = Path(certificate.__file__).with_name("certificate.schema.json")
    assert json.loads(path.read_text("utf-8")) == certificate.schema(), (
        "run python -m polyshare.translation.certificate > shared/polyshare/translation/certificate.schema.json"
    )
