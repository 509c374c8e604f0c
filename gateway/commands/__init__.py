"""The commands of `carnet-gateway`, one file a noun; each parses its arguments and calls what does the work.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""
