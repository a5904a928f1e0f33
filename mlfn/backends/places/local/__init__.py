"""The local place: worker processes on this machine."""
