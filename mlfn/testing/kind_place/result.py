"""What comes back from a run."""

from __future__ import annotations

import datetime
from typing import Any

import mlfn
from mlfn import errors
from mlfn.testing.kind_place.inside import close_clients
from mlfn.testing.kind_place.marks import CannotBeAttemptedError
from mlfn.testing.kind_place.pair import Pair


class ResultCases(Pair):
    """Values, errors and files."""

    def test_a_value_comes_back_as_itself(self) -> None:
        values = [0, False, None, "", [], (1, "a"), {"a": (1,)}, 1.0, 1, b"\0", {1, 2}, self.handlers.Point(3)]

        back = self.placed("echo").submit([*values, self.handlers.Color.RED]).result(self.patience)

        assert back == [*values, self.handlers.Color.RED]
        assert [type(item) for item in back[:-1]] == [type(item) for item in values]
        assert back[-1] is self.handlers.Color.RED

    def test_typed_inputs_and_outputs_travel(self) -> None:
        table = self.work / "table.txt"
        table.write_text("1\n2\n")

        run = self.placed("measure").submit(str(table), self.handlers.Point(1), datetime.date(2024, 2, 29), unit="cm")

        assert run.result(self.patience) == (2027, self.handlers.Point(2, "cm"))
        assert (run.outputs["total"], run.outputs["where"]) == (2027, self.handlers.Point(2, "cm"))
        assert table.read_text() == "1\n2\n"

    def test_users_exception_arrives_with_its_frames(self) -> None:
        run = self.placed("sell").submit("tea")

        error: Any = run.exception(self.patience)

        assert type(error) is self.handlers.OutOfStockError
        assert (error.args, error.left) == (("tea", 0), 0)
        assert "in sell" in str(run.error) and "in _take_from_stock" in str(run.error)

    def test_output_of_another_run_is_a_parameter(self) -> None:
        double = self.placed("double")

        parent = double.submit(4)
        child = double.submit(getattr(parent.outputs, "return"))

        assert child.result(self.patience) == 16

    def test_artifact_is_readable_after_the_object_is_gone(self) -> None:
        run = self.placed("write_report").submit()
        assert run.wait(self.patience)

        close_clients()
        self.remove_objects()

        again = mlfn.run(run.id)
        assert again.outputs.report.path.read_text() == "written by the run\n"
        assert again.result() == "x" * 200_000

    def test_result_too_large_names_size_and_way_out(self) -> None:
        if self.too_large is None:
            raise CannotBeAttemptedError(f"too_large is None: no result is too large for {self.on}.")

        error = self.placed("large").submit(self.too_large).exception(self.patience)

        assert isinstance(error, errors.MlfnError)
        assert str(self.too_large) in str(error) and "artifacts" in str(error)

    def test_what_the_kind_injects_is_no_parameter(self) -> None:
        function, name = self.injecting()

        run = function.submit(n=2)

        assert run.result(self.patience) == (name, 2)
        assert run.params == {"n": 2}
        self.raised(errors.ParameterError, lambda: function.submit(1, 2))
