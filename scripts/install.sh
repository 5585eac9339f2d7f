#!/usr/bin/env bash
# Installs Spillway as a service of systemd, or removes it. What it does is said;
# a second run changes nothing. A configuration that is there is never
# overwritten: a default that has changed is put beside it as FILE.new.
set -euo pipefail
caller=$PWD
cd "$(dirname "$0")/.."

usage() {
	cat <<'END'
Usage: scripts/install.sh [OPTION]...

  --binary FILE   install this program; without it, bin/spillway, which is built
                  if it is not there
  --config FILE   the first configuration; without it, config/install.yaml
  --functions     run the function host too, with the example function
  --no-start      enable the service, but do not start or restart it
  --root DIR      install into this folder, for an image; nothing is started,
                  and users are made when the image boots
  --dry-run       say what would be done, and do nothing
  --uninstall     remove all but the configuration, the state and the logs
  --purge         with --uninstall, remove these too, and the users
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
units=(spillway spillway-functions)
example='' # the function beside the program
changed=0 files=0

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

# place SOURCE TARGET MODE installs a file that is not there, or is another.
place() {
	local target=$root$2
	if ! cmp -s "$1" "$target" || [[ $(stat -c %a "$target") != "$3" ]]; then
		act "install $2" install -D -m "$3" "$1" "$target"
	fi
}

# keep DEFAULT TARGET MODE installs a file that belongs to the operator from then
# on. A default that differs from the last one is put beside it.
keep() {
	local target=$root$2 last=$root$pristine/${2##*/}
	if [[ ! -e $target ]]; then
		place "$1" "$2" "$3"
	elif ! cmp -s "$1" "$last" && ! cmp -s "$1" "$target"; then
		place "$1" "$2.new" "$3"
	fi
	place "$1" "$pristine/${2##*/}" 644
}

remove() {
	local path
	for path in "$@"; do
		[[ ! -e $root$path && ! -L $root$path ]] || act "remove $path" rm -rf "$root$path"
	done
}

check_machine() {
	[[ $(uname -s) == Linux ]] || die 'Spillway runs on Linux only'
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
		[[ -x $binary || -n $dry ]] || make --no-print-directory build
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
	awk -v key="$1" -v port="$2" '$1 == key ":" { port = $2; gsub(/.*:|["\047]/, "", port) } END { print port }' "$3"
}

# check_ports says who stands in the way, before anything is changed.
check_ports() {
	local file=/etc/spillway/spillway.yaml port taken
	[[ -n $start && -z $dry ]] && command -v ss >/dev/null || return 0
	! systemctl is-active --quiet spillway || return 0
	[[ -e $file ]] || file=$config
	for port in "$(port_of listen 443 "$file")" "$(port_of http 80 "$file")"; do
		[[ $port != off ]] || continue
		taken=$(ss -Hlntup "sport = :$port" | head -n 1)
		[[ -z $taken ]] ||
			die "port $port is in use: $taken; stop that program, change listen or http in the configuration, or say --no-start"
	done
}

install_files() {
	place "$binary" "$program" 755
	[[ ! -f $example ]] || place "$example" "$library/functions/thumb/bootstrap" 755
	keep "$config" /etc/spillway/spillway.yaml 640
	keep scripts/systemd/functions.env /etc/default/spillway-functions 644
	place scripts/systemd/sysusers.conf /etc/sysusers.d/spillway.conf 644
	place scripts/systemd/tmpfiles.conf /etc/tmpfiles.d/spillway.conf 644
	place scripts/systemd/sysctl.conf /etc/sysctl.d/60-spillway.conf 644
	place scripts/systemd/logrotate.conf /etc/logrotate.d/spillway 644
	local unit
	for unit in "${units[@]}"; do
		place "scripts/systemd/$unit.service" "/etc/systemd/system/$unit.service" 644
	done
}

# prepare makes what the files ask for: users, folders and their owners, settings
# of the kernel. An image does it when it boots.
prepare() {
	live && [[ -z $dry ]] && ((files > 0)) || return 0
	systemd-sysusers /etc/sysusers.d/spillway.conf
	systemd-tmpfiles --create /etc/tmpfiles.d/spillway.conf
	sysctl_apply
	systemctl daemon-reload
}

# A container may not change the kernel's settings; its host can.
sysctl_apply() {
	/lib/systemd/systemd-sysctl /etc/sysctl.d/60-spillway.conf ||
		say 'the kernel settings of /etc/sysctl.d/60-spillway.conf could not be set; HTTP/3 is slower without them'
}

# serve UNIT enables a unit, and starts it or, when something changed, restarts it.
serve() {
	local unit=$1.service
	if [[ ! -L $root/etc/systemd/system/multi-user.target.wants/$unit ]]; then
		act "enable $unit" systemctl ${root:+--root="$root"} --quiet enable "$unit"
	fi
	live && [[ -n $start ]] || return 0
	if ! systemctl is-active --quiet "$unit"; then
		act "start $unit" systemctl start "$unit" || die "$unit does not start; see: journalctl -u $unit"
	elif ((files > 0)); then
		act "restart $unit" systemctl restart "$unit" || die "$unit does not start again; see: journalctl -u $unit"
	fi
}

do_install() {
	find_binary
	! live || check_ports
	install_files
	files=$changed # what a running service has not seen
	prepare
	if [[ -n $functions || -L $root/etc/systemd/system/multi-user.target.wants/spillway-functions.service ]]; then
		serve spillway-functions
	fi
	serve spillway
	if ((changed == 0)); then
		say 'everything is in place; nothing to change'
	elif live && [[ -n $start && -z $dry ]]; then
		say 'done; next: edit /etc/spillway/spillway.yaml, then systemctl reload spillway; spillway status shows what it does'
	fi
}

do_uninstall() {
	local unit
	if live; then
		for unit in "${units[@]}"; do
			! systemctl is-active --quiet "$unit" || act "stop $unit" systemctl stop "$unit"
		done
	fi
	for unit in "${units[@]}"; do
		remove "/etc/systemd/system/multi-user.target.wants/$unit.service" "/etc/systemd/system/$unit.service"
	done
	remove "$program" "$library" "$pristine" /etc/spillway/spillway.yaml.new /etc/default/spillway-functions.new \
		/etc/sysctl.d/60-spillway.conf /etc/logrotate.d/spillway /etc/tmpfiles.d/spillway.conf /etc/sysusers.d/spillway.conf
	if [[ -n $purge ]]; then
		remove /etc/spillway /etc/default/spillway-functions /var/lib/spillway /var/log/spillway
		live || return 0
		for unit in "${units[@]}"; do
			! getent passwd "$unit" >/dev/null || act "remove the user $unit" userdel "$unit"
		done
	fi
	if live && [[ -z $dry ]] && ((changed > 0)); then
		systemctl daemon-reload
	fi
	((changed > 0)) || say 'nothing of Spillway is here'
}

check_machine
if [[ -n $uninstall ]]; then
	do_uninstall
else
	do_install
fi
