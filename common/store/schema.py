"""Tables. Times are seconds since the epoch, UTC; project keys are 'platform:id'; revisions count label changes."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Blob = sa.LargeBinary

project = sa.Table(
    "project",
    metadata,
    sa.Column("key", sa.String(200), primary_key=True),
    sa.Column("platform", sa.String(40), nullable=False),
    sa.Column("external", sa.String(150), nullable=False),
    sa.Column("title", sa.Text, nullable=False, default=""),
    sa.Column("state", sa.String(20), nullable=False),  # asked, active, stopped, archived
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("spec", sa.JSON, nullable=False, default=dict),
    sa.Column("platform_state", sa.JSON, nullable=False, default=dict),
    sa.Column("settings", sa.JSON, nullable=False, default=dict),  # its own values, see common.config.for_project
    sa.Column("revision", sa.Integer, nullable=False, default=0),
    sa.Column("watermark", sa.Float),
    sa.Column("first_read", sa.Float),
    sa.Column("reconciled", sa.Float),
    sa.Column("retry_at", sa.Float),
    sa.Column("asked", sa.Float),
    sa.Column("training_asked", sa.Float),
    sa.Column("order_asked", sa.Float),
    sa.Column("arrivals", sa.JSON, nullable=False, default=dict),  # see ProjectRow
    sa.Column("way_back", sa.JSON, nullable=False, default=dict, server_default="{}"),  # see ProjectRow
    sa.Column("reviewed", sa.Integer, nullable=False, default=0, server_default="0"),  # see ProjectRow
    sa.Column("checkpoint", sa.Integer),
    sa.Column("publication", sa.Integer),
    sa.Column("numbered", sa.Integer, nullable=False, default=0),  # highest publication number ever seen there
    sa.Column("lease_owner", sa.String(80)),
    sa.Column("lease_until", sa.Float),
    sa.Column("fence", sa.Integer, nullable=False, default=0),
    sa.Column("created", sa.Float, nullable=False),
)

sample = sa.Table(
    "sample",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(200), nullable=False),
    sa.Column("external", sa.String(150), nullable=False),
    sa.Column("uri", sa.Text, nullable=False),
    sa.Column("updated", sa.Float),
    sa.Column("answers", sa.Integer, nullable=False, default=0),
    sa.Column("skips", sa.Integer, nullable=False, default=0),
    sa.Column("gone", sa.Boolean, nullable=False, default=False),
    sa.Column("sha256", sa.String(64)),
    sa.Column("width", sa.Integer, nullable=False, default=0),
    sa.Column("height", sa.Integer, nullable=False, default=0),
    sa.Column("problem", sa.Text, nullable=False, default=""),
    sa.Column("tried", sa.Float),
    sa.Column("seen", sa.Float, nullable=False),
    sa.UniqueConstraint("project", "external"),
    sqlite_autoincrement=True,
)

annotation = sa.Table(
    "annotation",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(200), nullable=False),
    sa.Column("external", sa.String(150), nullable=False),
    sa.Column("sample", sa.String(150), nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("since", sa.Integer, nullable=False),  # first revision that has it
    sa.Column("until", sa.Integer),  # first revision that no longer has it
    sa.Column("recorded", sa.Float, nullable=False),
    sa.Index("ix_annotation_project_sample", "project", "sample"),
    sa.UniqueConstraint("project", "external", "updated", "since"),
)

checkpoint = sa.Table(
    "checkpoint",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(200), nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("names", sa.JSON, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False, default=dict),
    sa.Column("created", sa.Float, nullable=False),
    sa.UniqueConstraint("project", "round"),
)

round_ = sa.Table(
    "round",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(200), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),  # running, done, failed, cancelled
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("labels", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("token", sa.Integer, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("progress", sa.JSON, nullable=False, default=dict),
    sa.Column("message", sa.Text, nullable=False, default=""),
    sa.Column("verdict", sa.String(20), nullable=False, default="", server_default=""),  # promoted, provisional, kept
    sa.Column("gate", sa.JSON, nullable=False, default=dict, server_default="{}"),  # the numbers behind the verdict
    sa.Column("split", sa.JSON, nullable=False, default=dict, server_default="{}"),  # see RoundRow
    sa.Column("started", sa.Float, nullable=False),
    sa.Column("ended", sa.Float),
    sa.UniqueConstraint("project", "number"),
    sa.Index(
        "uq_round_one_running",
        "project",
        unique=True,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    ),
)

measurement = sa.Table(
    "measurement",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(200), nullable=False),
    sa.Column("round", sa.Integer, nullable=False),  # number of the round whose validation set it is
    sa.Column("kind", sa.String(20), nullable=False),  # checkpoint, control (random slice), chosen (its opponent)
    sa.Column("trained", sa.Integer, nullable=False),  # number of the round that trained it, 0 = the first weights
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("labels", sa.Integer, nullable=False),  # it was trained on
    sa.Column("images", sa.Integer, nullable=False),  # it was measured on
    sa.Column("biased", sa.Integer, nullable=False),  # of those, images that are not of the random slice
    sa.Column("metrics", sa.JSON, nullable=False),  # map50, map5095, ap50/CLASS, ap5095/CLASS and their low, high
    sa.Column("at", sa.Float, nullable=False),
    sa.UniqueConstraint("project", "round", "kind", "trained"),
)

review = sa.Table(
    "review",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(200), nullable=False),
    sa.Column("sample", sa.String(150), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),  # missed, swapped, location, disagreement, untouched
    sa.Column("mark", sa.String(64), nullable=False),  # of the very thing disputed: the same finding is one row
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("weight", sa.Float, nullable=False),  # in [0, 1], 1 = look at it first
    sa.Column("boxes", sa.JSON, nullable=False),  # what it is about, fractions of the image
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),  # open, dismissed (by a person), gone (no longer disputed)
    sa.Column("at", sa.Float, nullable=False),
    sa.UniqueConstraint("project", "sample", "kind", "mark"),
)

publication = sa.Table(
    "publication",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(200), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("checkpoint", sa.Integer),  # whose predictions it shows, null = the weights it started from
    sa.Column("version", sa.String(200), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),  # building, sending, active, retired, failed, gone
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("sent", sa.Integer, nullable=False, default=0),  # places passed
    sa.Column("rows", sa.Integer, nullable=False, default=0),  # rows the platform confirmed
    sa.Column("in_flight", sa.Integer, nullable=False, default=0),  # rows of a call not answered yet
    sa.Column("upto", sa.Integer, nullable=False, default=0),  # places passed once that call is answered
    sa.Column("seconds", sa.JSON, nullable=False, default=dict),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("activated", sa.Float),
    sa.Column("activations", sa.JSON, nullable=False, server_default="[]"),  # every time it began to serve
    sa.UniqueConstraint("project", "number"),
    sa.UniqueConstraint("project", "version"),
)

queue = sa.Table(
    "queue",
    metadata,
    sa.Column("publication", sa.Integer, primary_key=True),
    sa.Column("rank", sa.Integer, primary_key=True),
    sa.Column("sample", sa.String(150), nullable=False),
    sa.Column("place", sa.Float, nullable=False),  # in [0, 1], low = label first
    sa.Column("utility", sa.Float, nullable=False),
    sa.Column("parts", sa.JSON, nullable=False),
    sa.Index("ix_queue_publication_sample", "publication", "sample"),
    sa.Index("ix_queue_publication_place", "publication", "place", "rank"),
)

map_ = sa.Table(
    "map",
    metadata,
    sa.Column("project", sa.String(200), primary_key=True),
    sa.Column("publication", sa.Integer, nullable=False),  # whose model's embeddings it shows
    sa.Column("made", sa.Float, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),  # of a processor
    sa.Column("body", Blob, nullable=False),  # see MapRow: every id as int64, then every point, compressed
)

prediction = sa.Table(
    "prediction",
    metadata,
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("image", sa.String(64), primary_key=True),
    sa.Column("imgsz", sa.Integer, primary_key=True),
    sa.Column("looks", sa.String(64), primary_key=True, default=""),  # see Committee.looks, '' = the one pass
    sa.Column("body", Blob, nullable=False),
)

descriptor = sa.Table(
    "descriptor",
    metadata,
    sa.Column("image", sa.String(64), primary_key=True),
    sa.Column("body", Blob, nullable=False),
)

memory = sa.Table(
    "memory",
    metadata,
    sa.Column("project", sa.String(200), primary_key=True),
    sa.Column("kind", sa.String(250), primary_key=True),
    sa.Column("key", sa.String(150), primary_key=True),
    sa.Column("value", sa.JSON, nullable=False),
)

journal = sa.Table(
    "journal",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(200), nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("level", sa.String(10), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Index("ix_journal_project_at", "project", "at"),
)

inbox_metadata = sa.MetaData()

event = sa.Table(
    "event",
    inbox_metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("platform", sa.String(40), nullable=False),
    sa.Column("project", sa.String(150), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("samples", sa.JSON, nullable=False),
    sa.Column("annotations", sa.JSON, nullable=False),
    sa.Column("done", sa.Float, index=True),
    sqlite_autoincrement=True,
)

event_trace = sa.Table(
    "event_trace",
    inbox_metadata,
    sa.Column("event", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("trace", sa.String(64), nullable=False),
)
"""Which trace an event began. A table of its own: an inbox that an earlier version made needs no migration."""
