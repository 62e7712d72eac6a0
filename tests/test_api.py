"""The public Python API: README's example as it stands there, and numbers that are those of the command line."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rigbench
from rigbench.errors import InputError

ROOT = Path(__file__).parents[1]
V1 = ROOT / "tests/documents/v1.json"


def test_the_example_in_the_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (example,) = (block for block in blocks if block.startswith("import rigbench"))
    done = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "user_tps" in done.stdout


def test_a_frame_has_a_row_for_each_group_and_a_column_for_each_metric() -> None:
    result = rigbench.load(V1)
    table = result.frame()
    assert list(table["case_group"]) == [row.group for row in result.rows]
    assert table["user_tps"][1] == result.rows[1]["user_tps"] or math.isnan(table["user_tps"][1])
    assert table["user_tps"].dtype == table["joules_per_token"].dtype == float
    assert len(rigbench.frame([V1, V1])) == 2 * len(table)


def test_requests_are_one_row_each_with_their_own_times() -> None:
    result = rigbench.load(V1)
    requests = [request for case in result.document.cases for request in case.requests]
    table = result.requests_frame()
    assert len(table) == len(requests) > 0
    first = requests[0]
    assert table["ttft_s"][0] == pytest.approx((first.unit_us[0] - first.submit_us) / 1e6)
    assert table["output_tokens"][0] == len(first.unit_us)


def test_a_result_compared_with_itself_is_the_same() -> None:
    verdicts = {cell.verdict for cell in rigbench.compare(rigbench.load(V1), V1).cells}
    assert "same" in verdicts
    assert verdicts <= {"same", "not comparable"}  # a group was not measured


def test_a_suite_is_measured_and_its_file_is_there(tmp_path: Path) -> None:
    result = rigbench.measure("smoke", backend="sim", out=tmp_path, telemetry=False)
    assert result.path.is_file() and tmp_path in result.path.parents
    assert rigbench.load(result.path).document.id == result.document.id
    assert result.frame()["user_tps"].notna().any()


def test_a_prediction_names_its_rule() -> None:
    answers = rigbench.predictions("llama-3.3-70b", "rtx-5090x2")
    assert answers[0].predictor == "roofline"
    assert answers[0].user_tps is not None and answers[0].user_tps > 0


def test_what_is_not_there_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        rigbench.load(tmp_path / "nothing.json")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rigbench.nothing


def test_importing_the_package_loads_the_standard_library_alone() -> None:
    code = "import sys, rigbench; print(sorted({m.partition('.')[0] for m in sys.modules} & {'pandas', 'numpy', 'pydantic'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
