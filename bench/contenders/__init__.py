"""The contenders: a module each."""
