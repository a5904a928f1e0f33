"""A function that is declared in a cell: IPython's own shell runs the text."""

from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.run_cell("""
import mlfn

def lines(folder):
    found = !ls $folder
    return found

@mlfn.function
def celled(folder: str = "") -> int:
    return len(lines(folder)) if folder else 0

celled.submit().wait()
celled.on("inline").submit().wait()
""").raise_error()
