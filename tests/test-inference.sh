#!/bin/sh
# Tests a deployed service from outside, with curl only.
set -eu

usage() {
    cat <<'EOF'
test-inference.sh [--features N] [--wait SECONDS] URL

  URL             of the service, such as http://192.168.1.10 (the Ingress) or http://localhost:8080
  --features N    length of one sample; the service is asked where it is not given
  --wait SECONDS  how long to wait until it is ready (30)

Exit code 0 when every check passed, 1 when one failed, 2 for wrong arguments.
EOF
}

misused() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    usage >&2
    exit 2
}

url=
features=
wait_s=30
while [ $# -gt 0 ]; do
    case $1 in
    --features | --wait)
        [ $# -ge 2 ] || misused "$1 needs a number"
        case $2 in
        "" | *[!0-9]*) misused "$1 needs a number, got $2" ;;
        esac
        if [ "$1" = --features ]; then features=$2; else wait_s=$2; fi
        shift
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    -*) misused "unknown option: $1" ;;
    *)
        [ -z "$url" ] || misused "one argument too many: $1"
        url=${1%/}
        ;;
    esac
    shift
done
case $url in
http://?* | https://?*) ;;
*) misused "URL is needed, as http://HOST or https://HOST" ;;
esac
command -v curl >/dev/null 2>&1 || {
    echo "curl is not installed" >&2
    exit 1
}

body=$(mktemp)
trap 'rm -f "$body"' EXIT
failed=0
status=

# ask METHOD PATH [JSON]: the answer's status in $status, its body in the file $body.
ask() {
    if [ $# -eq 3 ]; then
        status=$(curl -s --max-time 10 -o "$body" -w '%{http_code}' -X "$1" -H 'Content-Type: application/json' --data "$3" "$url$2") || status=000
    else
        status=$(curl -s --max-time 10 -o "$body" -w '%{http_code}' -X "$1" "$url$2") || status=000
    fi
}

# check WHAT STATUS [TEXT...]: the last answer has this status, and every text in its body.
check() {
    what=$1
    expected=$2
    shift 2
    problem=
    [ "$status" = "$expected" ] || problem="status $status, expected $expected"
    for text in "$@"; do
        grep -q -- "$text" "$body" || problem="${problem:+$problem; }no $text in the answer"
    done
    if [ -z "$problem" ]; then
        printf 'ok      %s\n' "$what"
    else
        printf 'FAILED  %s: %s: %s\n' "$what" "$problem" "$(head -c 300 "$body" | tr '\n' ' ')"
        failed=$((failed + 1))
    fi
}

: >"$body"
ask GET /health
while [ "$status" != 200 ] && [ "$wait_s" -gt 0 ]; do
    wait_s=$((wait_s - 1))
    sleep 1
    ask GET /health
done
check "GET /health says it is ready" 200 '"status":"ok"'
if [ "$status" = 000 ]; then
    printf 'Nobody answers at %s. In the cluster: kubectl get services,ingress,pods -n tierwise\n' "$url"
    exit 1
fi

# Nested deeper than any model's input, this is refused with the number of values that a sample has.
if [ -z "$features" ]; then
    ask POST /predict '{"input": [[[[[[0.0]]]]]]}'
    features=$(sed -n 's/.*expected \([0-9][0-9]*\) values a sample.*/\1/p' "$body")
    if [ -z "$features" ]; then
        printf 'FAILED  the service does not tell how long a sample is; give --features N: %s\n' "$(head -c 300 "$body" | tr '\n' ' ')"
        exit 1
    fi
fi
# numbers N: as many numbers, each 0.0 or 1.0, which integer inputs take too.
numbers() {
    awk -v n="$1" 'BEGIN { printf "["; for (i = 0; i < n; i++) printf "%s%d.0", i ? "," : "", i % 2; printf "]" }'
}
sample=$(numbers "$features")
ask POST /predict "{\"input\": $sample}"
check "POST /predict answers one sample" 200 '"prediction":' '"inference_time_ms":' '"model":' '"tier":'
first_status=$status
first=$(sed 's/"inference_time_ms":[^,}]*//' "$body")
ask POST /predict "{\"input\": $sample}"
if [ "$first_status" != 200 ] || [ "$status" != 200 ]; then
    echo "FAILED  the same sample gets the same prediction: there is none to compare"
    failed=$((failed + 1))
elif [ "$(sed 's/"inference_time_ms":[^,}]*//' "$body")" = "$first" ]; then
    echo "ok      the same sample gets the same prediction"
else
    echo "FAILED  the same sample got another prediction: $(head -c 300 "$body")"
    failed=$((failed + 1))
fi
ask POST /predict "{\"input\": [$sample, $sample]}"
check "POST /predict answers a batch" 200 '"prediction":\['

ask POST /predict '{"input": '
check "broken JSON is refused" 400 '"error":'
ask POST /predict '{"input": ["no number"]}'
check "what is no number is refused" 400 '"error":'
ask POST /predict "{\"input\": [$(numbers $((features + 1)))]}"
check "a sample of the wrong length is refused" 400 '"error":'
ask GET /no-such-path
check "an unknown path is not found" 404

ask GET /metrics
check "GET /metrics counts the requests" 200 'tierwise_requests_total{.*code="ok"' 'tierwise_inference_duration_seconds_bucket'
ask GET /health
check "it is still ready" 200 '"status":"ok"'

if [ "$failed" -gt 0 ]; then
    printf '%s checks failed\n' "$failed"
    exit 1
fi
echo "All checks passed."
