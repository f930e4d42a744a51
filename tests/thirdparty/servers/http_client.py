"""Calls every endpoint of the FastAPI application: python http_client.py URL ROUNDS."""

from __future__ import annotations

import sys

import httpx

ROWS = {"rows": [[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 1.0]]}
SCORES = [20.0, 2.0]


def call_all(client: httpx.Client, number: int) -> None:
    """One of each, with what has to come of it."""
    for path in ("/predict", "/predict-async"):
        response = client.post(path, json=ROWS)
        assert (response.status_code, response.json()) == (200, SCORES), response.text
    assert client.get(f"/items/{number}").json() == {"item_id": number}
    assert client.get("/items/none").status_code == 422
    assert client.get("/stream").text == "0\n1\n2\n"
    assert client.get("/refused").status_code == 503
    assert client.get(f"/nowhere/{number}").status_code == 404
    assert client.get("/predict").status_code == 405
    # Last: uvicorn closes the connection after it.
    assert client.get("/broken").status_code == 500


if __name__ == "__main__":
    for count in range(int(sys.argv[2])):
        # A connection each: whichever worker takes it.
        with httpx.Client(base_url=sys.argv[1], timeout=60) as one:
            call_all(one, count)
