from __future__ import annotations

from pathlib import Path

import pytest

from pinchpoint.samplers.cgroup import CgroupSampler
from pinchpoint.samplers.source import SourceUnavailable
from pinchpoint.schema.samples import CgroupCpuSample, CgroupMemorySample
from tests.unit.samplers.support import only, write

V2_STAT = "usage_usec 900\nuser_usec 600\nnr_periods 10\nnr_throttled 4\nthrottled_usec 250\n"
V1_STAT = "nr_periods 7\nnr_throttled 3\nthrottled_time 123456\n"
UNLIMITED_V1 = "9223372036854771712\n"


def mount(point: Path, kind: str, root: str = "/", options: str = "rw") -> str:
    shown = str(point).replace(" ", "\\040")
    return f"31 23 0:28 {root} {shown} rw,nosuid shared:4 - {kind} {kind} {options}\n"


def proc(tree: Path, cgroup: str, mounts: str) -> None:
    write(tree, {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mounts})


def sampler(tree: Path) -> CgroupSampler:
    return CgroupSampler(tree / "proc")


def cpu(tree: Path) -> CgroupCpuSample:
    return only(sampler(tree).sample(1), CgroupCpuSample)


def memory(tree: Path) -> CgroupMemorySample:
    return only(sampler(tree).sample(1), CgroupMemorySample)


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    """A v2 machine: the process is in /pod/app, whose quota is 1.5 cores."""
    proc(tmp_path, "0::/pod/app\n", mount(tmp_path / "fs", "cgroup2"))
    write(
        tmp_path / "fs",
        {
            "pod/cpu.max": "max 100000\n",
            "pod/cpu.stat": V2_STAT.replace("10", "99"),
            "pod/app/cpu.max": "150000 100000\n",
            "pod/app/cpu.stat": V2_STAT,
            "pod/app/memory.current": "5000\n",
            "pod/app/memory.max": "8000\n",
            "pod/app/memory.stat": "anon 3000\nfile 1900\ninactive_file 1200\n",
            "pod/app/memory.events": "low 0\nhigh 5\nmax 4\noom 3\noom_kill 2\n",
            "pod/app/memory.swap.current": "700\n",
            "pod/app/memory.peak": "6000\n",
        },
    )
    return tmp_path


@pytest.fixture
def hybrid(tmp_path: Path) -> Path:
    """CPU, usage and memory on v1, each on a mount of its own, beside a v2 tree without any."""
    proc(
        tmp_path,
        "4:memory:/m/x\n2:cpuacct:/a\n1:cpu:/c\n0::/u\n",
        mount(tmp_path / "cpu", "cgroup", options="rw,cpu")
        + mount(tmp_path / "cpuacct", "cgroup", options="rw,cpuacct")
        + mount(tmp_path / "memory", "cgroup", options="rw,memory")
        + mount(tmp_path / "unified", "cgroup2"),
    )
    write(
        tmp_path,
        {
            "cpu/c/cpu.cfs_quota_us": "40000\n",
            "cpu/c/cpu.cfs_period_us": "100000\n",
            "cpu/c/cpu.stat": V1_STAT,
            "cpuacct/a/cpuacct.usage": "777\n",
            "memory/m/x/memory.usage_in_bytes": "5000\n",
            "memory/m/x/memory.limit_in_bytes": UNLIMITED_V1,
            "memory/m/x/memory.stat": "rss 1\ninactive_file 1\ntotal_inactive_file 4000\n"
            "total_rss 600\ntotal_cache 4300\ntotal_swap 50\n",
            "memory/m/x/memory.max_usage_in_bytes": "5900\n",
            "memory/m/x/memory.failcnt": "8\n",
            "memory/m/x/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
            "unified/u/cpu.stat": V2_STAT,
        },
    )
    return tmp_path


def test_v2_cpu_is_read_in_nanoseconds_and_cores(v2: Path) -> None:
    reading = cpu(v2)
    assert reading.version == 2
    assert reading.limit_cores == 1.5
    assert (reading.periods, reading.throttled_periods) == (10, 4)
    assert (reading.throttled_ns, reading.usage_ns) == (250_000, 900_000)
    assert reading.inode == (v2 / "fs/pod/app").stat().st_ino


def test_v2_memory_leaves_reclaimable_file_pages_out_of_the_working_set(v2: Path) -> None:
    reading = memory(v2)
    assert (reading.usage_bytes, reading.working_set_bytes) == (5000, 3800)
    assert (reading.limit_bytes, reading.oom_kills) == (8000, 2)


def test_v2_memory_is_told_by_kind_and_by_event(v2: Path) -> None:
    reading = memory(v2)
    assert (reading.anonymous_bytes, reading.file_bytes, reading.swap_bytes) == (3000, 1900, 700)
    assert (reading.peak_bytes, reading.limit_hits, reading.high_events) == (6000, 4, 5)


def test_v1_memory_is_that_of_the_whole_subtree(hybrid: Path) -> None:
    reading = memory(hybrid)
    assert (reading.anonymous_bytes, reading.file_bytes, reading.swap_bytes) == (600, 4300, 50)
    assert (reading.peak_bytes, reading.limit_hits, reading.high_events) == (5900, 8, None)


def test_a_quota_in_an_ancestor_is_the_containers(v2: Path) -> None:
    write(v2 / "fs", {"pod/app/cpu.max": "max 100000\n", "pod/cpu.max": "200000 100000\n"})
    reading = cpu(v2)
    assert reading.limit_cores == 2
    assert reading.periods == 99
    assert reading.inode == (v2 / "fs/pod").stat().st_ino


def test_a_memory_limit_in_an_ancestor_is_the_containers(v2: Path) -> None:
    write(
        v2 / "fs",
        {"pod/app/memory.max": "max\n", "pod/memory.max": "9000\n", "pod/memory.current": "70\n"},
    )
    reading = memory(v2)
    assert (reading.limit_bytes, reading.usage_bytes) == (9000, 70)
    assert reading.working_set_bytes is None


def test_without_any_quota_the_own_group_is_read_and_has_no_limit(v2: Path) -> None:
    write(v2 / "fs", {"pod/app/cpu.max": "max 100000\n"})
    reading = cpu(v2)
    assert reading.limit_cores is None
    assert reading.throttled_ns == 250_000
    assert reading.inode == (v2 / "fs/pod/app").stat().st_ino


def test_a_quota_set_while_the_process_runs_is_seen(v2: Path) -> None:
    running = sampler(v2)
    running.sample(1)
    (v2 / "fs/pod/app/cpu.max").write_text("50000 100000\n")
    assert only(running.sample(2), CgroupCpuSample).limit_cores == 0.5
    running.close()


def test_a_quota_set_on_an_ancestor_changes_the_inode(v2: Path) -> None:
    write(v2 / "fs", {"pod/app/cpu.max": "max 100000\n"})
    running = sampler(v2)
    first = only(running.sample(1), CgroupCpuSample)
    (v2 / "fs/pod/cpu.max").write_text("50000 100000\n")
    second = only(running.sample(2), CgroupCpuSample)
    assert first.inode != second.inode
    assert second.limit_cores == 0.5


def test_a_moved_process_is_read_at_its_new_group(v2: Path) -> None:
    running = sampler(v2)
    first = only(running.sample(1), CgroupCpuSample)
    write(v2 / "fs", {"other/cpu.max": "30000 100000\n", "other/cpu.stat": V2_STAT})
    write(v2, {"proc/self/cgroup": "0::/other\n"})
    second = only(running.sample(2), CgroupCpuSample)
    assert second.limit_cores == 0.3
    assert second.inode != first.inode


def test_hybrid_chooses_the_version_per_controller(hybrid: Path) -> None:
    reading = cpu(hybrid)
    assert reading.version == 1
    assert reading.limit_cores == 0.4
    assert (reading.periods, reading.throttled_periods, reading.throttled_ns) == (7, 3, 123456)


def test_v1_usage_comes_from_its_own_controller(hybrid: Path) -> None:
    assert cpu(hybrid).usage_ns == 777


def test_v1_usage_follows_the_group_with_the_quota(hybrid: Path) -> None:
    proc(
        hybrid,
        "1:cpu,cpuacct:/c/deep\n",
        mount(hybrid / "cpu", "cgroup", options="rw,cpu,cpuacct"),
    )
    write(hybrid, {"cpu/c/deep/cpu.cfs_quota_us": "-1\n", "cpu/c/cpuacct.usage": "555\n"})
    reading = cpu(hybrid)
    assert (reading.limit_cores, reading.usage_ns) == (0.4, 555)


def test_v1_says_unlimited_with_a_huge_number(hybrid: Path) -> None:
    reading = memory(hybrid)
    assert reading.limit_bytes is None
    assert (reading.usage_bytes, reading.working_set_bytes, reading.oom_kills) == (5000, 1000, 1)


def test_v1_without_quota_has_no_limit(hybrid: Path) -> None:
    write(hybrid, {"cpu/c/cpu.cfs_quota_us": "-1\n"})
    reading = cpu(hybrid)
    assert reading.limit_cores is None
    assert reading.periods == 7


def test_a_controller_that_v1_does_not_have_is_read_from_v2(hybrid: Path) -> None:
    mounts = (hybrid / "proc/self/mountinfo").read_text()
    proc(hybrid, "4:memory:/m/x\n0::/u\n", mounts)
    reading = cpu(hybrid)
    assert reading.version == 2
    assert reading.usage_ns == 900_000


def test_a_container_with_the_hosts_path_reads_its_mounted_part(tmp_path: Path) -> None:
    proc(
        tmp_path,
        "1:cpu:/docker/abc\n",
        mount(tmp_path / "cpu", "cgroup", root="/docker/abc", options="rw,cpu"),
    )
    write(tmp_path, {"cpu/cpu.stat": V1_STAT})
    assert cpu(tmp_path).periods == 7


def test_a_group_below_the_mounted_part_is_found(tmp_path: Path) -> None:
    proc(
        tmp_path,
        "1:cpu:/docker/abc/worker\n",
        mount(tmp_path / "cpu", "cgroup", root="/docker/abc", options="rw,cpu"),
    )
    write(tmp_path, {"cpu/cpu.stat": "", "cpu/worker/cpu.stat": V1_STAT})
    assert cpu(tmp_path).periods == 7


def test_a_namespaced_container_reads_the_root_of_its_mount(tmp_path: Path) -> None:
    proc(tmp_path, "0::/\n", mount(tmp_path / "fs", "cgroup2"))
    write(tmp_path, {"fs/cpu.stat": V2_STAT, "fs/cpu.max": "100000 100000\n"})
    assert cpu(tmp_path).limit_cores == 1


@pytest.mark.parametrize("path", ["/kubepods/pod1/abc", "/../sibling"])
def test_a_path_that_is_not_visible_falls_back_to_the_mounted_root(
    tmp_path: Path, path: str
) -> None:
    proc(tmp_path, f"0::{path}\n", mount(tmp_path / "fs", "cgroup2"))
    write(tmp_path, {"fs/cpu.stat": V2_STAT})
    assert cpu(tmp_path).periods == 10


def test_a_mount_point_with_a_space_is_found(tmp_path: Path) -> None:
    proc(tmp_path, "0::/\n", mount(tmp_path / "my fs", "cgroup2"))
    write(tmp_path, {"my fs/cpu.stat": V2_STAT})
    assert cpu(tmp_path).periods == 10


def test_a_missing_file_leaves_its_field_absent(v2: Path) -> None:
    (v2 / "fs/pod/app/cpu.stat").unlink()
    (v2 / "fs/pod/app/memory.stat").unlink()
    samples = sampler(v2).sample(1)
    assert only(samples, CgroupCpuSample).throttled_ns is None
    assert only(samples, CgroupCpuSample).limit_cores == 1.5
    assert only(samples, CgroupMemorySample).working_set_bytes is None
    assert only(samples, CgroupMemorySample).usage_bytes == 5000


def test_a_v2_root_without_memory_files_gives_no_memory_sample(tmp_path: Path) -> None:
    proc(tmp_path, "0::/\n", mount(tmp_path / "fs", "cgroup2"))
    write(tmp_path, {"fs/cpu.stat": "usage_usec 5\n"})
    (reading,) = sampler(tmp_path).sample(1)
    assert isinstance(reading, CgroupCpuSample)
    assert (reading.usage_ns, reading.periods, reading.limit_cores) == (5000, None, None)


@pytest.mark.parametrize("mounts", ["", "nonsense\n", "1 2 0:3 / /proc rw - proc proc rw\n"])
def test_without_a_cgroup_mount_it_is_unavailable(tmp_path: Path, mounts: str) -> None:
    proc(tmp_path, "0::/\n", mounts)
    with pytest.raises(SourceUnavailable, match="mount /sys/fs/cgroup"):
        sampler(tmp_path).sample(1)


def test_the_real_machine_can_be_read_twice() -> None:
    running = CgroupSampler()
    try:
        first = only(running.sample(1), CgroupCpuSample)
        second = only(running.sample(2), CgroupCpuSample)
    except SourceUnavailable:
        pytest.skip("this machine has no cgroups")
    finally:
        running.close()
    assert first.inode == second.inode
