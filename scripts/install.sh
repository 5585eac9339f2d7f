#!/usr/bin/env bash
# Installs Spillway as a service of systemd, or removes it. What it does is said;
# a second run changes nothing, and one after a failure finishes what is left. A
# configuration that is there is never overwritten: a default that has changed is
# put beside it as FILE.new. A file that is not ours, or was changed since it was
# installed, is neither replaced nor removed.
set -euo pipefail
umask 022 # root's may be stricter, and the users of the services must get in
caller=$PWD
cd "$(dirname "$0")/.."

usage() {
	cat <<'END'
Usage: scripts/install.sh [OPTION]...

  --binary FILE   install this program; without it, bin/spillway, which is built
                  if it is not there
  --config FILE   the first configuration; without it, config/install.yaml
  --functions     run the function host too, with the example function
  --no-start      enable the service, but do not start or restart it, nor ask
                  whether the program accepts the configuration
  --root DIR      install into this folder, for an image; nothing is started,
                  and users are made when the image boots
  --dry-run       say what would be done, and do nothing
  --uninstall     remove what was installed and is as it was; the configuration,
                  the state, the logs and your own functions stay
  --purge         with --uninstall, remove all of /etc/spillway (keys too), the
                  state, the logs and the users as well
END
}

say() { echo "install: $*"; }
die() {
	echo "install: $*" >&2
	exit 1
}

binary='' config=config/install.yaml root='' functions='' start=1 dry='' uninstall='' purge=''
while (($# > 0)); do
	case $1 in
	--binary | --config | --root)
		(($# > 1)) || die "$1 needs a value; see --help"
		[[ $2 == /* ]] || set -- "$1" "$caller/$2" "${@:3}"
		printf -v "${1#--}" %s "$2"
		shift
		;;
	--functions | --uninstall | --purge) printf -v "${1#--}" 1 ;;
	--no-start) start='' ;;
	--dry-run) dry=1 ;;
	--help | -h) usage && exit ;;
	*) die "there is no option $1; see --help" ;;
	esac
	shift
done
[[ -z $purge || -n $uninstall ]] || die '--purge goes with --uninstall only'
root=${root%/}

program=/usr/local/bin/spillway
library=/usr/local/lib/spillway
pristine=/usr/local/share/spillway # the defaults as they were installed
manifest=$pristine/installed       # checksums of all that was ever put in place
unfinished=$pristine/unfinished    # is there while a running service lags behind the files
units=(spillway spillway-functions)
example='' # the function beside the program
changed=0 files=0 unit_changed=

# live is true when this machine's own services and users are meant.
live() { [[ -z $root ]]; }

# act says what is done, and does it unless this is a dry run.
act() {
	local what=$1
	shift
	changed=$((changed + 1))
	if [[ -n $dry ]]; then
		say "would $what"
	else
		say "$what"
		"$@"
	fi
}

# present tells whether something has this name: a link that leads nowhere too.
present() { [[ -e $root$1 || -L $root$1 ]]; }

# same tells whether a target is a file of its own with the contents of SOURCE.
same() { [[ ! -L $root$2 ]] && cmp -s "$1" "$root$2"; }

# line is what the manifest says of a TARGET with the contents of FILE.
line() {
	local sum
	sum=$(sha256sum <"$1")
	echo "${sum%% *}  $2"
}

# installed tells whether a file is as an installation has left it.
installed() { [[ -f $root$1 && ! -L $root$1 ]] && grep -qsxF "$(line "$root$1" "$1")" "$root$manifest"; }

# listed tells whether an installation has put a file there, whatever it is now.
listed() { grep -qs "^[0-9a-f]*  $1\$" "$root$manifest"; }

# edited tells whether a file in /etc was changed after it was installed. It is the
# operator's then, as with a package.
edited() { [[ $2 == /etc/* ]] && present "$2" && listed "$2" && ! same "$1" "$2" && ! installed "$2"; }

# own refuses to replace what is somebody else's.
own() {
	! present "$2" || same "$1" "$2" || installed "$2" || edited "$1" "$2" || {
		! listed "$2" || die "$2 was changed after it was installed; move it away"
		die "$2 is there already, and this script has not put it there; move it away, or remove it"
	}
}

# put SOURCE TARGET MODE writes a file beside the target first: when the disk is
# full, what was there is still there, and still runs.
put() {
	local target=$root$2 new
	new=$(dirname "$target")/.${2##*/}.new
	if ! { install -D -m "$3" "$1" "$new" && sync "$new" && mv -fT "$new" "$target"; }; then
		rm -f "$new"
		die "$2 could not be written; it is as it was"
	fi
}

# replace puts a file that is ours from then on. The manifest knows it first:
# after a failure in between, the next run may go on.
replace() {
	local entry entries
	mkdir -p "$root$pristine"
	: >"$root$unfinished"
	: >>"$root$manifest"
	entry=$(line "$1" "$2")
	if ! grep -qxF "$entry" "$root$manifest"; then
		entries=$(cat "$root$manifest" && echo "$entry") || die "$manifest could not be read"
		put <(echo "$entries") "$manifest" 644
	fi
	put "$@"
}

# place SOURCE TARGET MODE installs a file that is not there, or is another.
place() {
	own "$1" "$2"
	if edited "$1" "$2"; then
		say "keep $2: it was changed after it was installed"
		return
	fi
	if ! same "$1" "$2" || ! installed "$2" || [[ $(stat -c %a "$root$2") != "$3" ]]; then
		act "install $2" replace "$@"
	fi
}

# keep DEFAULT TARGET MODE installs a file that belongs to the operator from then
# on. A default that differs from the last one is put beside it.
keep() {
	local last=$root$pristine/${2##*/}
	if ! present "$2"; then
		act "install $2" put "$@"
	elif ! cmp -s "$1" "$last" && ! cmp -s "$1" "$root$2"; then
		place "$1" "$2.new" "$3"
	fi
	place "$1" "$pristine/${2##*/}" 644
}

remove() {
	local path
	for path in "$@"; do
		! present "$path" || act "remove $path" rm -rf "$root$path"
	done
}

check_machine() {
	local program
	[[ $(uname -s) == Linux ]] || die 'Spillway runs on Linux only'
	for program in awk cmp sha256sum; do
		command -v "$program" >/dev/null || die "$program is missing; install it, and run this again"
	done
	if [[ -n $root ]]; then
		[[ -d $root ]] || die "--root $root: no such folder"
		return
	fi
	[[ -n $dry || $(id -u) == 0 ]] || die 'this needs root; try: sudo scripts/install.sh, or --dry-run'
	[[ -d /run/systemd/system ]] ||
		die 'systemd does not run here; run bin/spillway by other means, or install an image with --root DIR'
}

# find_binary builds a program, or takes the one that was named, and makes sure
# that it runs on this machine. That comes before anything is changed.
find_binary() {
	[[ -f $config ]] || die "--config $config: no such file"
	if [[ -z $binary ]]; then
		binary=bin/spillway
		[[ -x $binary || -n $dry ]] || { scripts/setup build && make --no-print-directory build; } ||
			die 'bin/spillway could not be built; run make build as the user who has Go, then this again'
		[[ -x $binary ]] || die 'bin/spillway is not built yet, so that there is nothing to compare; run: make build'
	fi
	[[ -f $binary ]] || die "--binary $binary: no such file"
	example=$(dirname "$binary")/bootstrap
	[[ -z $functions || -f $example ]] || die "--functions: the example function $example is missing; run: make build"
	# An image may be for another machine: there the program cannot be tried.
	live || return 0
	"$binary" version >/dev/null 2>&1 ||
		die "$binary does not run here: this machine is $(uname -m), and the program may be for another; build it here, or with GOARCH set"
}

# port_of reads the port of a key of the configuration: ":443", or 192.0.2.1:443.
port_of() {
	awk -v key="$1" -v port="$2" '$1 == key ":" { port = $2; gsub(/.*:|[^0-9a-z]/, "", port) } END { print port }' "$3"
}

# check_ports says who stands in the way, before anything is changed.
check_ports() {
	local file=/etc/spillway/spillway.yaml port taken
	[[ -n $start && -z $dry ]] && command -v ss >/dev/null || return 0
	! systemctl is-active --quiet spillway || return 0
	[[ -e $file ]] || file=$config
	for port in "$(port_of listen 443 "$file")" "$(port_of http 80 "$file")"; do
		[[ $port != off ]] || continue
		taken=$(ss -Hlntup "sport = :$port" | awk 'NR == 1') || continue
		[[ -z $taken ]] ||
			die "port $port is in use: $taken; stop that program, change listen or http in the configuration, or say --no-start"
	done
}

# check_config lets the program read what it will run with, before anything is
# changed: an upgrade that refuses the configuration would leave no node at all.
check_config() {
	local file=/etc/spillway/spillway.yaml by=(env) output
	[[ -n $start ]] || return 0
	present "$file" || file=$config
	[[ -z $dry || $(id -u) == 0 || -r $file ]] || return 0
	# Only systemd reads the variables as the unit will, and tells over D-Bus alone.
	if present /etc/spillway/environment; then
		[[ $(id -u) == 0 && -S /run/dbus/system_bus_socket ]] ||
			{ say 'without D-Bus or root, the configuration is not checked with /etc/spillway/environment' && return; }
		by=(systemd-run --quiet --wait --pipe --collect --same-dir --property=EnvironmentFile=/etc/spillway/environment env)
	fi
	# Only the unit makes the folder of its log.
	if [[ ! -d /var/log/spillway ]] && grep -qs '^[^#]*/var/log/spillway/' "$file"; then
		by+=(SPILLWAY_LOG__ACCESS=off)
	fi
	output=$("${by[@]}" "$(realpath "$binary")" check "$file" 2>&1 </dev/null) || {
		echo "$output" >&2
		die "$binary does not accept $file; mend that, or say --no-start"
	}
}

# each VERB calls VERB SOURCE TARGET MODE for what every installation replaces.
each() {
	local unit
	"$1" "$binary" "$program" 755
	[[ ! -f $example ]] || "$1" "$example" "$library/functions/thumb/bootstrap" 755
	"$1" scripts/systemd/sysusers.conf /etc/sysusers.d/spillway.conf 644
	"$1" scripts/systemd/tmpfiles.conf /etc/tmpfiles.d/spillway.conf 644
	"$1" scripts/systemd/sysctl.conf /etc/sysctl.d/60-spillway.conf 644
	"$1" scripts/systemd/logrotate.conf /etc/logrotate.d/spillway 644
	for unit in "${units[@]}"; do
		"$1" "scripts/systemd/$unit.service" "/etc/systemd/system/$unit.service" 644
	done
}

install_files() {
	local unit=$root/etc/systemd/system/spillway.service before
	before=$(cksum "$unit" 2>/dev/null) || before='' # the first time
	each own # all of them, before the first is touched
	keep "$config" /etc/spillway/spillway.yaml 640
	keep scripts/systemd/functions.env /etc/default/spillway-functions 644
	each place
	files=$changed # what a running service has not seen
	# What the unit says holds for processes that systemd starts.
	[[ $(cksum "$unit" 2>/dev/null) == "$before" ]] || unit_changed=1
	[[ ! -e $root$unfinished ]] || files=1
}

# prepare makes what the files ask for: users, folders and their owners, settings
# of the kernel. It does so each time, as the last run may have failed in here. An
# image does it when it boots.
prepare() {
	live && [[ -z $dry ]] || return 0
	systemd-sysusers /etc/sysusers.d/spillway.conf || die 'the users could not be made; mend that, and run this again'
	systemd-tmpfiles --create /etc/tmpfiles.d/spillway.conf || die 'the folders could not be made; mend that, and run this again'
	sysctl_apply
	systemctl daemon-reload
	command -v logrotate >/dev/null ||
		say 'logrotate is not installed: the access log grows without end; install it, or set log.access to stdout'
}

# A container may not change the kernel's settings; its host can.
sysctl_apply() {
	/lib/systemd/systemd-sysctl /etc/sysctl.d/60-spillway.conf ||
		say 'the kernel settings of /etc/sysctl.d/60-spillway.conf could not be set; HTTP/3 is slower without them'
}

# upgrades tells whether a reload of a unit is an upgrade. In one that the operator keeps
# from before there were any, it puts the configuration in force and no more.
upgrades() { systemctl show --property ExecReload "$1" | grep -q 'spillway upgrade'; }

# serve UNIT enables a unit, and starts it or, when something changed, lets a new
# process take its place without losing a visitor, or restarts it where the unit knows
# no upgrade. A node that refuses one goes on: the new process might serve nobody.
serve() {
	local unit=$1.service
	if [[ ! -L $root/etc/systemd/system/multi-user.target.wants/$unit ]]; then
		act "enable $unit" systemctl ${root:+--root="$root"} --quiet enable "$unit"
	fi
	live && [[ -n $start ]] || return 0
	if ! systemctl is-active --quiet "$unit"; then
		act "start $unit" systemctl start "$unit" || die "$unit does not start; see: journalctl -u $unit"
	elif ((files > 0)) && [[ $1 == spillway && -z $unit_changed ]] && upgrades "$unit"; then
		act "upgrade $unit" systemctl reload "$unit" ||
			die "$unit refuses the upgrade and goes on with the program that it has; see: journalctl -u $unit; mend that and run this again, or systemctl restart $unit"
	elif ((files > 0)); then
		act "restart $unit" systemctl restart "$unit" || die "$unit does not start again; see: journalctl -u $unit"
	fi
}

do_install() {
	find_binary
	! live || check_config
	! live || check_ports
	install_files
	prepare
	if [[ -n $functions || -L $root/etc/systemd/system/multi-user.target.wants/spillway-functions.service ]]; then
		serve spillway-functions
	fi
	serve spillway
	# A node that runs and was not to be restarted still lags behind.
	if [[ -z $dry ]] && { [[ -n $start ]] || ! live; }; then
		rm -f "$root$unfinished"
	fi
	if ((changed == 0)); then
		say 'everything is in place; nothing to change'
	elif live && [[ -n $start && -z $dry ]]; then
		say 'done; next: edit /etc/spillway/spillway.yaml, then systemctl reload spillway; spillway status shows what it does'
	fi
}

# remove_installed removes the files that are as they were installed, and the
# folders that nothing else is in.
remove_installed() {
	local path folder
	while read -r path; do
		if installed "$path"; then
			remove "$path"
		elif present "$path"; then
			say "keep $path: it was changed after it was installed"
		fi
	done < <(cut -d ' ' -f 3- "$root$manifest" | sort -u)
	remove "$unfinished" "$manifest"
	for folder in "$library"/functions/thumb "$library"/functions "$library" "$pristine"; do
		[[ ! -d $root$folder || -n $(ls -A "$root$folder") ]] || act "remove $folder" rmdir "$root$folder"
	done
}

do_uninstall() {
	local unit path kept=(/etc/systemd/system/{spillway,spillway-functions}.service.d)
	local data=(/etc/spillway /etc/default/spillway-functions /var/lib/spillway /var/cache/spillway /var/log/spillway)
	for unit in "${units[@]}"; do
		listed "/etc/systemd/system/$unit.service" || continue
		! live || ! systemctl is-active --quiet "$unit" || act "stop $unit" systemctl stop "$unit"
		remove "/etc/systemd/system/multi-user.target.wants/$unit.service"
	done
	[[ ! -f $root$manifest ]] || remove_installed
	if [[ -n $purge ]]; then
		remove "${data[@]}"
		for unit in "${units[@]}"; do
			! live || ! getent passwd "$unit" >/dev/null || act "remove the user $unit" userdel "$unit"
		done
	else
		kept+=("${data[@]}")
	fi
	for path in "${kept[@]}"; do
		! present "$path" || say "keep $path"
	done
	if live && [[ -z $dry ]] && ((changed > 0)); then
		systemctl daemon-reload
	fi
	((changed > 0)) || say 'nothing is left to remove'
}

check_machine
if [[ -n $uninstall ]]; then
	do_uninstall
else
	do_install
fi
