"""`rigbench suites`: what can be measured without writing anything."""

from __future__ import annotations

from rigbench.cli.options import JSON, say_json


def command(as_json: bool = JSON) -> None:
    """List the suites that ship with rigbench."""
    from rigbench.suites.suite import load_suite, suite_files

    entries = [load_suite(name) for name in suite_files()]
    if as_json:
        say_json([suite.model_dump(mode="json") for suite in entries])
        return
    from rigbench.report.table import output_console, print_notes, print_table
    from rigbench.suites.custom import flags_of

    console = output_console()
    print_table(console, ("suite", "flags", "about"), [(each.name, flags_of(each), each.about) for each in entries])
    print_notes(console, ["Without a suite, `rigbench run my-model.gguf` measures for about five minutes."])
