#!/bin/sh
# What the watches of the fault harness run: chaos_action.sh DIRECTORY WATCH EDITION COMMAND
#
# It appends to DIRECTORY/runs a line when it begins (B), one when it has printed the first
# half of its lines (P) and one when it ends (E). Between the halves it runs COMMAND, which may
# set the exit code. It forks nothing else, so that it is quick.
directory=$1 watch=$2 edition=$3 command=$4 code=
read -r stat < /proc/$$/stat
# The words are meant to be split.
# shellcheck disable=SC2086
set -- $stat
me="$watch $$ ${22}"

# The run before this one, if its process is still there: as WATCH has noted its pid and its start time.
alive=-
if [ -e "$directory/last.$watch" ]; then
    read -r pid ticks < "$directory/last.$watch"
    if [ -e "/proc/$pid/stat" ] && read -r stat < "/proc/$pid/stat"; then
        # shellcheck disable=SC2086
        set -- $stat
        if [ "$3" != Z ] && [ "${22}" = "$ticks" ]; then
            alive=$pid
        fi
    fi
fi 2> /dev/null
echo "$$ ${me##* }" > "$directory/last.$watch"

contents=
while read -r line; do
    contents=$contents,$line
done
contents=${contents#,}

read -r now _ < /proc/uptime
echo "B $now $me $TWITCHER_EVENT $TWITCHER_VERSION $TWITCHER_MZXID ${contents:--} $alive $edition $TWITCHER_ATTEMPT" >> "$directory/runs"
token=$$.${me##* }
echo "line $token 1"
echo "line $token 2"
echo "line $token 3"
read -r now _ < /proc/uptime
echo "P $now $me 3" >> "$directory/runs"
eval "$command"
echo "line $token 4"
echo "line $token 5"
echo "line $token 6"
read -r now _ < /proc/uptime
echo "E $now $me 6 ${code:-0}" >> "$directory/runs"
exit "${code:-0}"
