"""A training run that is interrupted."""

from robnet_zoo.training.updates import Updates


def interrupt_at(monkeypatch, update: int) -> list[int]:
    """Interrupt the update of this number; return those begun so far, a list that restarts the count if cleared."""
    real, begun = Updates._step, []

    def step(*arguments):
        begun.append(len(begun) + 1)
        if len(begun) == update:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(Updates, "_step", step)
    return begun
