# Runs in the guest: the task that came along on the project's disk.
cd /project || exit 1
export PYTHONPATH=/project/src:/project/.site PYTHONDONTWRITEBYTECODE=1 HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
# what systemd starts has no PYTHONPATH
mkdir -p /usr/local/lib/python3.11/dist-packages
printf '/project/src\n/project/.site\n' > /usr/local/lib/python3.11/dist-packages/pycompose.pth
uname -srm
grep -c '^cgroup2\? ' /proc/mounts
mount -t tmpfs tmpfs /tmp -o size=1500m
sh -c "$(cat tests/vm/task)"
echo "guest: status $?"
