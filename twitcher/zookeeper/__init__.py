"""One session, and what is asked of it. The only package that knows kazoo."""
