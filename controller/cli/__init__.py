"""The typer command line: parse, call, print."""
