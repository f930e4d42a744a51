"""Whose code a file is: the server's own, a library's, a client library's, torch's.

Decided by path alone, so that nothing of the running program is read.
"""

from __future__ import annotations

import os
import re
from enum import Enum, auto

CLIENT_PACKAGES = (
    "aiobotocore", "aiohttp", "aiokafka", "aiomysql", "aioredis", "amqp", "anthropic", "asyncpg",
    "azure", "boto3", "botocore", "cassandra", "clickhouse_connect", "clickhouse_driver",
    "confluent_kafka", "elastic_transport", "elasticsearch", "google/api_core", "google/auth",
    "google/cloud", "h11", "h2", "httpcore", "httplib2", "httpx", "kafka", "kombu", "ldap3",
    "memcache", "MySQLdb", "mysql", "nats", "openai", "opensearchpy", "paramiko", "pika",
    "pinecone", "psycopg", "psycopg2", "psycopg_pool", "pymemcache", "pymongo", "pymysql",
    "pyodbc", "qdrant_client", "redis", "requests", "s3transfer", "sqlalchemy", "thrift",
    "thriftpy2", "tritonclient", "urllib3", "weaviate", "websocket", "websockets", "zmq",
)  # fmt: skip
"""Libraries whose waits are waits for another service, by folder in site-packages."""

CLIENT_STANDARD_FILES = frozenset(
    {
        "ftplib.py", "http/client.py", "imaplib.py", "poplib.py", "smtplib.py",
        "urllib/request.py", "xmlrpc/client.py",
    }
)  # fmt: skip

GLUE_STANDARD_FILES = frozenset(
    {
        "asyncio/base_events.py", "asyncio/futures.py", "asyncio/locks.py", "asyncio/mixins.py",
        "asyncio/queues.py", "asyncio/runners.py", "asyncio/selector_events.py",
        "asyncio/sslproto.py", "asyncio/streams.py", "asyncio/taskgroups.py", "asyncio/tasks.py",
        "asyncio/threads.py", "asyncio/timeouts.py", "concurrent/futures/_base.py",
        "multiprocessing/connection.py", "queue.py", "selectors.py", "socket.py", "ssl.py",
        "threading.py",
    }
)  # fmt: skip
"""Standard library files that wait on behalf of their caller."""

_CLIENT = re.compile(
    rf"/(?:site|dist)-packages/(?:{'|'.join(map(re.escape, CLIENT_PACKAGES))})(?:/|\.py$)"
)
_GRPC = re.compile(r"/grpc/([^/]+)\.py$")
_GRPC_AIO = re.compile(r"/grpc/aio/([^/]+)\.py$")
_GRPC_FOLDER = re.compile(r"/(?:site|dist)-packages/grpc(?:/|_)")
_TORCH = re.compile(r"/(?:site|dist)-packages/(?:torch|torchvision|torchaudio|functorch)/")
_PACKAGES = re.compile(r"/(?:site|dist)-packages/")

_GRPC_CLIENT_FILES = frozenset({"_channel", "_interceptor", "_simple_stubs", "_utilities"})
_GRPC_GLUE_FILES = frozenset({"_common"})

_STANDARD = os.path.dirname(os.__file__) + "/"
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/"

FILES_MAX = 4096
"""Distinct files remembered; a server with more is classified anew each time."""


class Origin(Enum):
    """Whose code a frame runs."""

    OWN = auto()
    LIBRARY = auto()
    STANDARD = auto()
    GLUE = auto()
    """Waits for its caller: `threading`, `queue`, `socket`, `ssl`, …"""
    CLIENT = auto()
    GRPC_CLIENT = auto()
    GRPC_SERVER = auto()
    TORCH = auto()
    PROBE = auto()


_known: dict[str, Origin] = {}


def origin_of(path: str) -> Origin:
    """Whose code the file at `path` is."""
    origin = _known.get(path)
    if origin is None:
        origin = _decide(path)
        if len(_known) < FILES_MAX:
            _known[path] = origin
    return origin


def _decide(path: str) -> Origin:
    if path.startswith("<"):
        # "<frozen importlib._bootstrap>", "<string>": nothing that a reader could open.
        return Origin.STANDARD
    if path.startswith(_OURS):
        return Origin.PROBE
    if _PACKAGES.search(path):
        return _installed(path)
    return _standard(path[len(_STANDARD) :]) if path.startswith(_STANDARD) else Origin.OWN


def _installed(path: str) -> Origin:
    if _TORCH.search(path):
        return Origin.TORCH
    if _GRPC_FOLDER.search(path):
        return _grpc(path)
    return Origin.CLIENT if _CLIENT.search(path) else Origin.LIBRARY


def _grpc(path: str) -> Origin:
    found = _GRPC_AIO.search(path)
    if found is not None:
        return Origin.GRPC_SERVER if found.group(1) == "_server" else Origin.GRPC_CLIENT
    found = _GRPC.search(path)
    if found is None:
        return Origin.LIBRARY
    if found.group(1) in _GRPC_CLIENT_FILES:
        return Origin.GRPC_CLIENT
    if found.group(1) in _GRPC_GLUE_FILES:
        return Origin.GLUE
    return Origin.GRPC_SERVER if found.group(1) == "_server" else Origin.LIBRARY


def _standard(name: str) -> Origin:
    if name in CLIENT_STANDARD_FILES:
        return Origin.CLIENT
    return Origin.GLUE if name in GLUE_STANDARD_FILES else Origin.STANDARD
