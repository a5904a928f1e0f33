"""Value <-> artifact: one file per family of types, each with a `Packer` that writes the family in one format.

`registry` packs with the first packer whose format gives a value back exactly, safe formats first and pickle last. This
package travels to workers: it needs the standard library alone, and imports pandas, pyarrow or NumPy only inside the
functions that handle a value of theirs.

To add a packer:

1. Write `formats/<family>.py` with a class that has what `base.Packer` lists: `name` (the word that rows keep: never change
   it), `types` (exact types, or `()` where only `accepts` can tell), `accepts`, `pack`, `unpack`. `TextPacker` is the
   shortest example. `pack` raises `UnfitError` for a value that would not come back exactly; the next packer is asked then.
   Import a heavy library inside the methods; `accepts` reads `sys.modules`, as `NumpyPacker.accepts` does.
2. Add an instance to `registry.PACKERS`, at the place where it is to be asked.
3. Subclass `mlfn.testing.packers.PackerContract` in `tests/contract/test_packers.py` with values that fit and some that do not.
4. Add a row to the table in `docs/inputs-and-outputs.md`, and a line to the CHANGELOG.

A package of its own adds one without steps 2 and 4, by an entry point (`mlfn.settings.members`): it is asked after those of
mlfn and before pickle, and has to be installed wherever its values are read.
"""
