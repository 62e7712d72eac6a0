"""One sentence for an old Python, or a newer one found on PATH to go on with.

Every script imports this first. Any Python since 2.7 must be able to read the file, hence its plain syntax.
"""

import os
import subprocess
import sys

OLDEST = (3, 11)
NEWEST_TRIED = 15
FIX = (
    "install a newer one (Debian and Ubuntu: apt install python3.11 python3.11-venv; Mac: brew install python; "
    "Windows: winget install Python.Python.3.12) and run this again"
)


def runs_new_enough(command):
    """Whether `command` is a Python of at least OLDEST. A launcher on PATH may have nothing behind it."""
    code = "import sys; sys.exit(sys.version_info < %r)" % (OLDEST,)
    try:
        with open(os.devnull, "w") as nowhere:
            return subprocess.call([command, "-c", code], stdout=nowhere, stderr=nowhere) == 0
    except OSError:
        return False


def find_newer(search_path):
    """The full name of a Python that is new enough in the folders of `search_path`, or None."""
    names = ["python3.%d" % minor for minor in range(NEWEST_TRIED, OLDEST[1] - 1, -1)] + ["python3", "python"]
    for name in names:
        for folder in search_path.split(os.pathsep):
            candidate = os.path.join(folder, name)
            if os.path.isfile(candidate) and runs_new_enough(candidate):
                return candidate
    return None


def require():
    """Return on a Python that is new enough; else run this script again with one that is, or end with a sentence."""
    if sys.version_info >= OLDEST:
        return
    version = "%d.%d" % sys.version_info[:2]
    newer = find_newer(os.environ.get("PATH", os.defpath))
    if newer is None:
        sys.exit("rigbench needs Python %d.%d or newer and this is %s: %s." % (OLDEST[0], OLDEST[1], version, FIX))
    sys.stderr.write("This is Python %s, which is too old for rigbench; going on with %s.\n" % (version, newer))
    sys.stderr.flush()
    os.execv(newer, [newer] + sys.argv)
