"""The README does what it says: its Python blocks run, one after the other."""

import re
import shlex
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_two_commands_come_first():
    assert COMMANDS[0].splitlines() == [
        'pip install ".[demo]" && tapead demo',
        'pip install -e ".[test]" && pytest',
    ]
    assert README.index("```sh") < README.index("```python")


def test_python_blocks_run_in_order(capsys):
    assert BLOCKS
    names = {"__name__": "readme"}
    for number, block in enumerate(BLOCKS):
        # "raises" on a line: that line alone must fail, and with the named error.
        plain = [line for line in block.splitlines() if "# raises " not in line]
        exec(compile("\n".join(plain), f"README block {number}", "exec"), names)
        for line in block.splitlines():
            if "# raises " in line:
                code, _, error = line.partition("# raises ")
                with pytest.raises(Exception) as caught:  # noqa: PT011 - the name is checked below
                    exec(compile(code.strip(), f"README block {number}", "exec"), names)
                assert error.partition(":")[0] in {kind.__name__ for kind in type(caught.value).__mro__}


def test_links_inside_the_checkout_lead_somewhere():
    root = Path(__file__).resolve().parents[1]
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", README):
        assert (root / target).exists(), target


def test_the_trace_table_is_what_its_command_prints(capsys):
    from tapead.cli import main

    (words,) = [shlex.split(line)[1:] for block in COMMANDS for line in block.splitlines() if " trace " in line]
    assert main(words[: words.index("--svg")]) == 0
    (shown,) = re.findall(r"^```text\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    lines, printed = shown.splitlines(), capsys.readouterr().out.splitlines()
    assert len(lines) == len(printed) > 20
    # but for the rounding of the differences
    assert [line for line in lines if "e-" not in line] == [line for line in printed if "e-" not in line]
