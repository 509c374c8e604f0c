"""The commands of `carnet`, one file a group; each parses its flags, calls a use case, prints what came of it."""
