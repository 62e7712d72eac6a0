"""The command line: parse, call one function, print, exit code. The only place that prints or exits."""
