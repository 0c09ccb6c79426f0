"""One session, and the requests to it. The only package that knows kazoo."""
