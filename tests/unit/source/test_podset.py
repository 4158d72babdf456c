"""The union of what several lists and watches show, each at its own time."""

from __future__ import annotations

from dataclasses import replace

from streamer.model import Target
from streamer.source.pods import FoundPod, PodView
from streamer.source.podset import PodChange, PodSet

APP, NAME = 1, 2
"""Two scopes: the default selectors."""


def found(version: int | None, *, running: bool = True, deleting: bool = False, uid: str = "u") -> FoundPod:
    target = Target("falco", f"pod-{uid}", uid, "falco", "node-1")
    seen = PodView(target, None, running=running, deleting=deleting, finished=False)
    return FoundPod(uid, version, seen, ("falco",))


def shown(pod: FoundPod) -> PodChange:
    assert pod.view is not None
    return PodChange(pod.view, present=True)


def gone(pod: FoundPod) -> PodChange:
    return replace(shown(pod), present=False)


def test_a_pod_that_two_scopes_show_appears_once_and_leaves_with_the_last() -> None:
    pods, pod, last = PodSet(), found(5), found(9, deleting=True)
    assert pods.put(APP, pod) == shown(pod)
    assert pods.put(NAME, pod) is None
    assert pods.remove(APP, "u", last) is None
    assert pods.targets == 1
    assert pods.remove(NAME, "u", last) == gone(last)
    assert (pods.targets, len(pods), pods.views()) == (0, 0, [])
    assert last.view is not None
    assert pods.last_of(last.view.target) == last.view


def test_a_state_is_never_replaced_by_an_older_one() -> None:
    pods, new, old = PodSet(), found(10, running=False), found(9)
    pods.put(APP, new)
    assert pods.put(NAME, old) is None
    assert pods.views() == [new.view]
    assert pods.put(NAME, found(11)) == shown(found(11))


def test_versions_that_are_not_numbers_do_not_compare() -> None:
    pods = PodSet()
    pods.put(APP, found(10, running=False))
    assert pods.put(NAME, found(None)) == shown(found(None))


def test_a_scope_that_is_late_does_not_bring_back_who_left() -> None:
    pods = PodSet()
    pods.put(APP, found(5))
    pods.remove(APP, "u", found(9, deleting=True))
    assert pods.put(NAME, found(6)) is None  # it is behind by three versions, and will show the departure
    assert pods.remove(NAME, "u", found(9, deleting=True)) is None
    assert pods.targets == 0


def test_one_change_of_labels_may_take_a_pod_from_one_scope_to_the_other() -> None:
    pods, moved = PodSet(), found(9)
    pods.put(APP, found(5))
    assert pods.remove(APP, "u", found(9)) == gone(found(9))
    assert pods.put(NAME, moved) == shown(moved)


def test_how_it_left_is_not_an_older_state_than_what_was_known() -> None:
    pods = PodSet()
    pods.put(APP, found(10, running=False))
    assert pods.remove(APP, "u", found(9)) == gone(found(10, running=False))


def test_a_list_replaces_what_its_scope_has_shown_and_nothing_else() -> None:
    pods = PodSet()
    for uid in "ab":
        pods.put(APP, found(5, uid=uid))
    pods.put(NAME, found(5, uid="b"))
    changes = list(pods.replace(APP, [found(6, uid="c"), found(7, uid="d")], {"d-unread"}))
    assert changes == [shown(found(6, uid="c")), shown(found(7, uid="d")), gone(found(5, uid="a"))]


def test_a_pod_that_cannot_be_read_stays_as_it_was_known() -> None:
    pods = PodSet()
    pods.put(APP, found(5))
    assert list(pods.replace(APP, [], {"u"})) == []
    assert pods.views() == [found(5).view]


def test_after_a_restore_from_a_backup_what_is_listed_holds() -> None:
    pods = PodSet()
    pods.put(APP, found(500, running=False))
    assert list(pods.replace(APP, [found(40)], set(), anyway=True)) == [shown(found(40))]
    assert pods.put(APP, found(41, running=False)) == shown(found(41, running=False))


def test_a_pod_that_may_not_be_followed_any_more_leaves() -> None:
    pods, pod = PodSet(), found(5)
    pods.put(APP, pod)
    refused = replace(found(6), view=None, refusal="its owner is another")
    assert pods.put(APP, refused) == gone(pod)
    assert pods.remove(APP, "u", refused) is None
    assert pods.targets == 0
