"""Bytes to requests, however they are cut."""

from __future__ import annotations

import tracemalloc

import pytest

from tierwise.serving.http_parser import HttpLimits, HttpRequest, RefusedError, RequestParser, Target

POST = b"POST /predict?a=%20b HTTP/1.1\r\nHost: x\r\nX-Some: Thing\r\nContent-Length: 4\r\n\r\nbody"
GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /a%2Fb HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"
LIMITS = HttpLimits(body_bytes=100_000, request_bytes=200_000)


def parsed(*pieces: bytes) -> list[HttpRequest]:
    parser = RequestParser(LIMITS)
    for piece in pieces:
        parser.feed(piece)
    return list(parser.ready)


def test_a_request_and_its_parts() -> None:
    (request,) = parsed(POST)
    assert request == HttpRequest(
        b"POST",
        Target("/predict", b"/predict", b"a=%20b"),
        [(b"host", b"x"), (b"x-some", b"Thing"), (b"content-length", b"4")],
        "1.1",
        keep_alive=True,
        body=b"body",
    )


def test_it_does_not_matter_how_requests_are_cut() -> None:
    sent = POST + GET + CHUNKED + POST
    whole = parsed(sent)
    assert [request.target.path for request in whole] == ["/predict", "/health", "/a/b", "/predict"]
    assert [request.body for request in whole] == [b"body", b"", b"body", b"body"]
    for size in (1, 2, 7, 40):
        assert parsed(*(sent[start : start + size] for start in range(0, len(sent), size))) == whole


@pytest.mark.parametrize(
    "ending",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + GET,
        POST.replace(b"4", b"4\r\nTransfer-Encoding: chunked"),
        POST.replace(b"4", b"4\r\nContent-Length: 4"),
        POST.replace(b"4", b"100001"),
        CHUNKED.replace(b"2\r\n", b"0x2\r\n"),
        GET.replace(b"x", b"x\r\n y"),
        GET.replace(b"x", b"x\ny: z"),
        GET.replace(b"/health", b"/h\xc3\xa9alth"),
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + CHUNKED,
        b"CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n" + GET,
        b"GET / HTTP/1.1\r\n\r\n" + GET,
        GET.replace(b"Host: x", b"Host: x\r\nHost: x"),
    ],
)
def test_one_cut_anywhere_changes_nothing(ending: bytes) -> None:
    sent = CHUNKED[:-2] + b"X-Trailer: z\r\n\r\n" + POST + ending

    def outcome(*pieces: bytes) -> tuple[list[HttpRequest], int, str]:
        parser = RequestParser(LIMITS)
        try:
            for piece in pieces:
                parser.feed(piece)
        except RefusedError as refusal:
            return list(parser.ready), refusal.status, str(refusal)
        return list(parser.ready), 0, ""

    whole = outcome(sent)
    assert len(whole[0]) >= 2
    assert bool(whole[1]) == (ending != b"" and not ending.startswith(b"OPTIONS"))
    for cut in range(1, len(sent)):
        assert outcome(sent[:cut], sent[cut:]) == whole, cut


@pytest.mark.parametrize("length", [b"4 ", b"0" * 5000 + b"4", b"4" + b" " * 5000])
def test_lengths_in_other_words(length: bytes) -> None:
    assert parsed(POST.replace(b"4", length))[0].body == b"body"


def test_trailers_do_not_pass_for_headers() -> None:
    trailers = b"traceparent: 00-1\r\nexpect: 100-continue\r\n"
    parser = RequestParser(LIMITS)
    parser.feed(CHUNKED[:-2] + trailers)
    assert not parser.expects_continue
    parser.feed(b"\r\n" + GET)
    assert [request.headers for request in parser.ready] == [
        [(b"host", b"x"), (b"transfer-encoding", b"chunked")],
        [(b"host", b"x")],
    ]


@pytest.mark.parametrize(
    ("begin", "again"), [(CHUNKED[:-2], b"a:\r\n"), (CHUNKED[:-5], b"2\r\nxy\r\n")], ids=["trailers", "chunks"]
)
def test_tiny_parts_do_not_take_many_times_the_memory(begin: bytes, again: bytes) -> None:
    parser = RequestParser(HttpLimits(body_bytes=2**20, request_bytes=2**21))
    data = again * (2**16 // len(again))
    tracemalloc.start()
    try:
        parser.feed(begin)
        for _ in range(31):
            parser.feed(data)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_many_requests_in_one_long_read() -> None:
    assert len(parsed(POST * 2000)) == 2000


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
    ],
)
def test_who_keeps_the_connection(head: bytes, keep_alive: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    assert parsed(head)[0].keep_alive is keep_alive


@pytest.mark.parametrize(
    "host",
    [b"", b"x", b"x:80", b"x:", b"a_b.example-1.org", b"127.0.0.1:8080", b"[::1]", b"[fe80::1%25eth0]:81", b"%41.x"],
)
def test_hosts_of_every_form(host: bytes) -> None:
    assert parsed(GET.replace(b"Host: x", b"Host: " + host))[0].target.path == "/health"


@pytest.mark.parametrize("blanks", [b" ", b"\t", b" \t  "])
def test_blanks_around_a_value_do_not_belong_to_it(blanks: bytes) -> None:
    sent = POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    head, _, body = sent.partition(b"\r\n\r\n")
    spaced = head.replace(b"\r\n", blanks + b"\r\n").replace(b"1.1" + blanks, b"1.1").replace(b": ", b":" + blanks)
    parser = RequestParser(LIMITS)
    parser.feed(spaced + blanks + b"\r\n\r\n")
    assert parser.expects_continue
    parser.feed(body)
    assert list(parser.ready) == parsed(sent)


def test_http_1_0_needs_no_host() -> None:
    assert parsed(b"GET /health HTTP/1.0\r\n\r\n")[0].target.path == "/health"


def test_trailers_are_no_second_host() -> None:
    assert len(parsed(CHUNKED[:-2] + b"Host: y\r\n\r\n")) == 1


@pytest.mark.parametrize("offer", [b"h2c", b"websocket"])
@pytest.mark.parametrize("cut", [5, 60, len(POST) + 40])
def test_an_offer_to_change_the_protocol_is_ignored(offer: bytes, cut: int) -> None:
    lines = b"Connection: Upgrade\r\nUpgrade: " + offer + b"\r\n"
    sent = POST.replace(b"Host: x\r\n", b"Host: x\r\n" + lines) + GET
    request, after = parsed(sent[:cut], sent[cut:])
    assert (request.method, request.body, request.keep_alive) == (b"POST", b"body", True)
    assert after.target.path == "/health"


def test_what_is_expected_before_the_body() -> None:
    head, _, body = POST.partition(b"\r\n\r\n")
    parser = RequestParser(LIMITS)
    expects = []
    for piece in (head + b"\r\nExpect: 100-Continue\r\n\r\n", body[:1], body[1:] + GET):
        parser.feed(piece)
        expects.append(parser.expects_continue)
    assert expects == [True, False, False]
    assert [request.body for request in parser.ready] == [b"body", b""]


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (b"nonsense\r\n\r\n", 400, "not a valid HTTP request"),
        (b"GET http:///x HTTP/1.1\r\n\r\n", 400, "not a valid HTTP request"),
        (b"GET /\r\n\r\n", 505, "HTTP/0.9 is not supported"),
        (b"POST /predict HTTP/2.0\r\n\r\n", 505, "HTTP/2.0 is not supported"),
        (b"CONNECT /x HTTP/1.1\r\nHost: x\r\n\r\n", 501, "CONNECT"),
        (GET.replace(b"Host: x\r\n", b""), 400, "HTTP/1.1 needs a Host header"),
        (GET.replace(b"Host: x", b"Host: x\r\nhost: x"), 400, "more than one Host header"),
        (b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400, "more than one Host header"),
        (GET.replace(b"Host: x", b"Host: x, y"), 400, "the Host header is no host"),
        (GET.replace(b"Host: x", b"Host: x/y"), 400, "the Host header is no host"),
        (GET.replace(b"Host: x", b"Host: u@x"), 400, "the Host header is no host"),
        (GET.replace(b"Host: x", b"Host: x:y"), 400, "the Host header is no host"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 80_000, 431, "the headers have more than 32768 bytes"),
        (POST.replace(b"h: 4", b"h: 100001")[:-4], 413, "more than 100000 bytes (--max-payload-bytes)"),
        (CHUNKED[:-5] + b"186a0\r\n" + b"y" * 100_000, 413, "more than 100000 bytes (--max-payload-bytes)"),
        (CHUNKED[:-2] + b"x: y\r\n" * 50_000, 413, "the request has more than 200000 bytes"),
    ],
)
def test_what_is_refused(sent: bytes, status: int, said: str) -> None:
    parser = RequestParser(LIMITS)
    with pytest.raises(RefusedError) as refused:
        parser.feed(GET + sent)
    assert refused.value.status == status
    assert said in str(refused.value)
    assert [request.target.path for request in parser.ready] == ["/health"], "what came before is complete"


def test_which_request_the_rest_is_awaited_of() -> None:
    parser = RequestParser(LIMITS)
    awaited = []
    for piece in (b"\r\n", POST[:-1], POST[-1:] + GET[:5], GET[5:]):
        parser.feed(piece)
        awaited.append((parser.begun, parser.head is not None))
    assert awaited == [(0, False), (1, True), (2, False), (0, False)]
