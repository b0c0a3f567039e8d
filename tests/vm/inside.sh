# Runs in the guest: pytest with the arguments that came along.
cd /project || exit 1
export PYTHONPATH=/project/src:/project/.site PYTHONDONTWRITEBYTECODE=1 HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
uname -srm
grep cgroup2 /proc/mounts
mount -t tmpfs tmpfs /tmp -o size=1500m
python3 -m pytest -q --color=no -p no:cacheprovider --timeout 900 $(cat tests/vm/arguments)
echo "guest: status $?"
