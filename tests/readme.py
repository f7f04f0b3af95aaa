"""The code in the README: `python tests/readme.py` runs it, in an empty directory, and looks at what it prints."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def blocks(language):
    """(number of the line before, text) of each code block of the README."""
    text = README.read_text()
    return [
        (text[: match.start()].count("\n") + 1, match[1])
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def tour():
    """All Python code of the README as one program, with line numbers as there, and the lines that it prints."""
    script = [""] * README.read_text().count("\n")
    for line, text in blocks("python"):
        code = text.splitlines()
        script[line : line + len(code)] = code
    printed = [match[1] for line in script if (match := re.search(r"^ *print\(.*\) +# (.*)$", line))]
    assert len(printed) == "\n".join(script).count("print(") > 5  # each print has its output as a comment
    return "\n".join(script), printed


def main():
    script, expected = tour()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tour.py").write_text(script)
        command = [sys.executable, "-W", "error::ResourceWarning", "tour.py"]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"the code in the README ended with status {done.returncode}")
    if done.stdout.splitlines() != expected:
        sys.exit(f"the code in the README printed\n{done.stdout}instead of\n" + "\n".join(expected))


if __name__ == "__main__":
    main()
