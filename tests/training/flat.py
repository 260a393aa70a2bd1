"""Trainings for tests, with the settings of `Optimizer`, `Scale` and `Folder` as flat keywords."""

from dataclasses import fields

from course_lib.training import Folder, Optimizer, Scale, train

PARTS = {"optimizer": Optimizer, "scale": Scale}


def begin(model, loss, batch, folder=None, **settings):
    """`begin(..., lr=0.1, optimizer="muon", accumulate=2, save_every=5)`."""
    settings["name"] = settings.pop("optimizer", "adamw")
    for part, cls in PARTS.items():
        own = {field.name for field in fields(cls)} & settings.keys()
        settings[part] = cls(**{name: settings.pop(name) for name in own})
    keep = {"save_every", "resume", "data"} & settings.keys()
    keep = Folder(folder or "unused", **{name: settings.pop(name) for name in keep})
    return train(model, loss, batch, folder=folder and keep, **settings)
