"""Thirty-two threads, and the eight connections to the database that they share."""

import os
import threading
from urllib.parse import parse_qs

import psycopg2.pool

CONNECTIONS = 8
pool = None
free = threading.BoundedSemaphore(CONNECTIONS)
lock = threading.Lock()


def connections():
    global pool
    with lock:
        if pool is None:
            dsn = "host=%s dbname=postgres user=postgres" % os.environ["ORIGIN_DIR"]
            pool = psycopg2.pool.ThreadedConnectionPool(CONNECTIONS, CONNECTIONS, dsn)
        return pool


def app(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    seconds = float(query.get("ms", ["0"])[0]) / 1000
    with free:
        connection = connections().getconn()
        try:
            with connection.cursor() as cursor:
                cursor.execute("select pg_sleep(%s)", (seconds,))
            connection.rollback()
        finally:
            connections().putconn(connection)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
    return [b"done"]
