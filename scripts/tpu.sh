#!/usr/bin/env bash
# Creates a TPU VM or a slice with gcloud, runs one command on all its workers, and restarts it
# after preemption. It was not run on a real slice yet; the tests replace gcloud by a program that
# executes what it would send to the workers.
set -euo pipefail
QUICK_ENDS=3 QUICK_SECONDS=300

usage() {
    cat <<'EOF'
usage: scripts/tpu.sh create  NAME --zone=ZONE --type=TYPE --version=VERSION [--queued] [--spot]
       scripts/tpu.sh install NAME --zone=ZONE
       scripts/tpu.sh start   NAME --zone=ZONE -- COMMAND [ARGUMENT...]
       scripts/tpu.sh logs    NAME --zone=ZONE [--output=DIRECTORY]
       scripts/tpu.sh watch   NAME --zone=ZONE --type=TYPE --version=VERSION [--queued] [--spot]
                              [--poll=SECONDS] -- COMMAND [ARGUMENT...]
       scripts/tpu.sh delete  NAME --zone=ZONE [--queued]

create   creates the TPU and waits until it is ready. TYPE is for example v3-32, VERSION
         tpu-ubuntu2204-base; --queued requests a queued resource and waits for it, --spot a
         cheaper TPU that may be preempted
install  copies the committed state of this checkout to every worker and installs it there
start    starts COMMAND on every worker, in ~/resnet-rs, and returns; its output is added to run.log
logs     copies run.log of every worker to DIRECTORY/worker-N.log (default: logs/NAME)
watch    does create, install and start if necessary, checks every SECONDS (60), repeats them after
         preemption, a lost host or a failure of gcloud, and ends when COMMAND has succeeded on every
         worker, ended with status 2, or ended three times in a row with the same status within five
         minutes of its start
delete   deletes the TPU
EOF
}

fail() {
    echo "error: $*" >&2
    exit 1
}

misuse() {
    echo "error: $*" >&2
    usage >&2
    exit 2
}

parse() {
    [[ $# -gt 0 ]] || misuse 'an action is missing'
    action=$1
    shift
    case $action in
        create | install | start | logs | watch | delete) ;;
        -h | --help | help) usage && exit 0 ;;
        *) misuse "there is no action '$action'" ;;
    esac
    [[ $# -gt 0 && $1 =~ ^[a-z]([-a-z0-9]*[a-z0-9])?$ ]] ||
        misuse "'${1-}' is no name: lower-case letters, digits and hyphens"
    name=$1 zone='' type='' version='' queued='' spot='' output="logs/$1" poll=60 command=()
    shift
    while [[ $# -gt 0 ]]; do
        case $1 in
            --zone=?*) zone=${1#*=} ;;
            --type=?*) type=${1#*=} ;;
            --version=?*) version=${1#*=} ;;
            --output=?*) output=${1#*=} ;;
            --poll=?*) poll=${1#*=} ;;
            --queued) queued=yes ;;
            --spot) spot=yes ;;
            --) shift && command=("$@") && break ;;
            *) misuse "there is no option '$1'" ;;
        esac
        shift
    done
    [[ -n $zone ]] || misuse '--zone is missing'
    [[ $poll =~ ^[0-9]+$ ]] || misuse "--poll=$poll is no number of seconds"
    case $action in create | watch) [[ -n $type && -n $version ]] ||
        misuse "$action takes --type and --version" ;; esac
    case $action in start | watch) [[ ${#command[@]} -gt 0 ]] ||
        misuse "$action takes -- and a command" ;; esac
}

vm() { gcloud compute tpus tpu-vm "$1" "$name" --zone="$zone" "${@:2}"; }
queue() { gcloud compute tpus queued-resources "$1" "$name" --zone="$zone" "${@:2}"; }

# Prints the state of the queued resource until it is ACTIVE, then that of the TPU, or MISSING.
# Fails if gcloud fails for another reason.
state() {
    local answer
    if [[ -n $queued ]]; then
        answer=$(ask queue 'value(state.state)') || return
        [[ $answer == ACTIVE ]] || { echo "$answer" && return; }
    fi
    ask vm 'value(state)'
}

ask() {
    local answer errors
    errors=$(mktemp)
    answer=$("$1" describe --format="$2" 2>"$errors") || answer=MISSING
    if [[ $answer == MISSING ]] && ! grep -q NOT_FOUND "$errors"; then
        answer=''
        cat "$errors" >&2
    fi
    rm "$errors"
    echo "$answer"
    [[ -n $answer ]]
}

create() {
    echo "creating $name ($type, $zone)"
    if [[ -n $queued ]]; then
        queue create --node-id="$name" --accelerator-type="$type" --runtime-version="$version" \
            ${spot:+--spot}
    else
        vm create --accelerator-type="$type" --version="$version" ${spot:+--spot}
    fi
    local now
    while now=$(state); do
        case $now in
            READY) return ;;
            FAILED | SUSPENDING | SUSPENDED | PREEMPTED | TERMINATED | DELETING)
                fail "$name is $now; see: gcloud compute tpus tpu-vm describe $name --zone=$zone" \
                    "(or queued-resources)" ;;
        esac
        echo "$name is $now"
        sleep "$poll"
    done
    fail "gcloud does not report the state of $name"
}

delete() {
    if [[ -n $queued ]]; then queue delete --force --quiet; else vm delete --quiet; fi
}

workers() {
    local endpoints
    endpoints=$(vm describe --format='value(networkEndpoints[].ipAddress)')
    [[ -n $endpoints ]] || fail "$name has no workers"
    wc -w <<<"${endpoints//[;,]/ }"
}

# Calls FUNCTION WORKER ARGUMENT... for all workers at once; prints their output in their order.
# After all calls it fails with a line for every worker that failed.
on_workers() {
    local function=$1 directory count failed='' worker pids=()
    shift
    count=$(workers)
    directory=$(mktemp -d)
    for ((worker = 0; worker < count; worker++)); do
        "$function" "$worker" "$@" >"$directory/$worker" 2>"$directory/$worker.errors" &
        pids+=($!)
    done
    for ((worker = 0; worker < count; worker++)); do
        if ! wait "${pids[worker]}"; then
            failed+=" $worker"
            echo "error: worker $worker of $name: $(tail -n 1 "$directory/$worker.errors")" >&2
        fi
        cat "$directory/$worker"
    done
    rm -r "$directory"
    [[ -z $failed ]] || { echo "error: $action failed on worker(s)$failed of $count" >&2 && return 1; }
}

run_on() { vm ssh --worker="$1" --command="$2" --quiet </dev/null; }

# shellcheck disable=SC2016  # the worker expands the variables
install() {
    local archive
    [[ -z $(git status --porcelain) ]] || echo 'note: uncommitted changes are not copied'
    archive=$(mktemp -d)
    git archive --format=tar.gz --output="$archive/resnet-rs.tar.gz" HEAD
    on_workers copy_to "$archive/resnet-rs.tar.gz"
    rm -r "$archive"
    on_workers run_on 'set -e
        mkdir -p ~/resnet-rs && tar xzf ~/resnet-rs.tar.gz -C ~/resnet-rs && cd ~/resnet-rs
        python=$(command -v python3.13 python3.12 python3.11 | head -n 1)
        if [ -z "$python" ]; then
            python=python3.11
            sudo apt-get -qq update && sudo apt-get -qq install -y python3.11 python3.11-venv
        fi
        "$python" -m venv .venv && .venv/bin/pip install --quiet -r requirements-tpu.txt'
}

copy() { gcloud compute tpus tpu-vm scp "$2" "$3" --zone="$zone" --worker="$1" --quiet; }
copy_to() { copy "$1" "$2" "$name:resnet-rs.tar.gz"; }

# The command is quoted for the script, and the script for the worker's shell.
start() {
    local script remote
    script="$(printf '%q ' "${command[@]}")>> run.log 2>&1; echo \$? > run.status"
    # The command inherits the lock and holds it until it ends.
    remote="cd ~/resnet-rs && exec 9> run.lock && flock -n 9 ||
        { echo 'a command is already running, or nothing is installed' >&2; exit 1; }
        rm -f run.status; nohup bash -c $(printf '%q' "$script") > /dev/null 2>&1 < /dev/null &"
    on_workers run_on "$remote"
    echo "started on every worker of $name; 'scripts/tpu.sh logs $name --zone=$zone' copies the output"
}

logs() {
    mkdir -p "$output"
    on_workers copy_from
    echo "wrote $output/worker-*.log"
}

copy_from() { copy "$1" "$name:resnet-rs/run.log" "$output/worker-$1.log"; }

# Prints a line per worker: the exit status of its command, 'running' or 'absent'.
statuses() {
    on_workers run_on 'cd ~/resnet-rs 2> /dev/null && test -d .venv || { echo absent; exit 0; }
        flock -n run.lock true || { echo running; exit 0; }
        cat run.status 2> /dev/null || echo absent'
}

# Runs an action of this script by itself. Its failure does not end the caller, and still ends the
# action where it happened, which bash's errexit does not do in a function called in a condition.
alone() {
    bash "$0" "$1" "$name" --zone="$zone" --type="$type" --version="$version" --poll="$poll" \
        ${queued:+--queued} ${spot:+--spot} -- "${command[@]}" ||
        { echo "$1 failed; retrying" >&2 && return 1; }
}

# Fails if COMMAND has ended as often as QUICK_ENDS, each time with the statuses $1 and soon after
# its start: another start would end so too.
count_quick_end() {
    if [[ $1 == "$last" ]] && ((SECONDS - begun < QUICK_SECONDS + poll)); then
        ends=$((ends + 1))
    else
        ends=1
    fi
    last=$1
    ((ends < QUICK_ENDS)) || fail "the command ended $ends times soon after its start, with" \
        "status $1; see: scripts/tpu.sh logs $name --zone=$zone"
}

watch() {
    local now seen last='' ends=0 begun=0
    while true; do
        if ! now=$(state); then
            echo 'gcloud does not answer; retrying' >&2
        else
            case $now in
                READY)
                    if seen=$(statuses); then seen=$(sort -u <<<"$seen" | tr '\n' ' '); else seen='?'; fi
                    case " $seen" in
                        ' 0 ') echo 'succeeded on every worker' && return ;;
                        *' 2 '*) fail "an error in the command (status 2); see: scripts/tpu.sh logs" ;;
                        *running*) ;;
                        *\?*) echo 'some workers do not answer; retrying' >&2 ;;
                        *absent*)
                            alone install && alone start && begun=$SECONDS ;;
                        *)
                            count_quick_end "$seen"
                            echo "workers ended with status $seen; restarting"
                            alone start && begun=$SECONDS ;;
                    esac ;;
                MISSING) alone create && continue ;;
                PREEMPTED | TERMINATED | SUSPENDED | FAILED)
                    echo "$name is $now; creating it again"
                    alone delete && alone create && continue ;;
                *) echo "$name is $now" ;;
            esac
        fi
        sleep "$poll"
    done
}

parse "$@"
"$action"
