"""The commands of `tapead`, a module each: its docstring is the help, `add` declares its options, `run` does it."""
