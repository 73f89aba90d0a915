"""How CVAT 2.73 writes its objects as JSON: users, projects, labels, tasks, jobs, tokens, requests."""

from __future__ import annotations

import re
from typing import Any, Protocol
from urllib.parse import quote

from tests.cvat_server.world import (
    Job,
    Json,
    Label,
    Membership,
    Organization,
    Project,
    Request,
    Task,
    Token,
    User,
    World,
    stamp,
)


class Viewer(Protocol):
    """Who reads a body; names of tasks and projects that he may not see are null."""

    def views(self, thing: Any) -> bool: ...


def url(world: World, path: str) -> str:
    return f"{world.base_url}/api/{path}"


def user_json(world: World, user_id: int | None) -> Json | None:
    """The short form of a user, as inside other objects; null for nobody."""
    if user_id is None:
        return None
    user = world.users[user_id]
    return {
        "url": url(world, f"users/{user.id}"),
        "id": user.id,
        "username": user.username,
        "first_name": user.first_name,
        "last_name": user.last_name,
    }


def self_json(world: World, user: User) -> Json:
    """The long form: what users see of themselves."""
    return (user_json(world, user.id) or {}) | {
        "email": user.email,
        "groups": ["admin" if user.is_superuser else "user"],
        "is_staff": user.is_staff,
        "is_superuser": user.is_superuser,
        "is_active": user.is_active,
        "last_login": stamp(user.last_login),
        "date_joined": stamp(user.date_joined),
        "has_analytics_access": user.is_superuser,
    }


def organization_json(world: World, organization: Organization) -> Json:
    return {
        "id": organization.id,
        "slug": organization.slug,
        "name": organization.name,
        "description": organization.description,
        "created_date": stamp(organization.created_date),
        "updated_date": stamp(organization.updated_date),
        "contact": {},
        "owner": user_json(world, organization.owner_id),
    }


def membership_json(world: World, one: Membership) -> Json:
    return {
        "id": one.id,
        "user": user_json(world, one.user_id),
        "organization": one.organization_id,
        "is_active": one.is_active,
        "joined_date": stamp(one.joined_date),
        "role": one.role,
        "invitation": one.invitation,
    }


def token_json(world: World, token: Token) -> Json:
    """A token without its value, which is shown once."""
    return {
        "id": token.id,
        "name": token.name,
        "created_date": stamp(token.created_date),
        "updated_date": stamp(token.updated_date),
        "expiry_date": stamp(token.expiry_date),
        "last_used_date": stamp(token.last_used_date),
        "read_only": token.read_only,
        "owner": user_json(world, token.user_id),
    }


def label_json(label: Label) -> Json:
    body: Json = {
        "id": label.id,
        "name": label.name,
        "color": label.color,
        "attributes": [
            {
                "id": one.id,
                "name": one.name,
                "mutable": one.mutable,
                "input_type": one.input_type,
                "default_value": one.default_value,
                "values": one.values,
            }
            for one in label.attributes
        ],
        "type": label.type,
    }
    if label.parent_id is not None:
        return body | {"has_parent": True}
    body["sublabels"] = [label_json(one) for one in label.sublabels]
    body |= {"task_id": label.task_id} if label.task_id else {"project_id": label.project_id}
    body |= {"parent_id": None, "has_parent": False}
    return body | {"svg": _svg(label)} if label.type == "skeleton" else body


def _svg(label: Label) -> str:
    ids = {one.name: one.id for one in label.sublabels}
    found = re.compile(r'data-label-name="([^"]*)"')
    return found.sub(lambda match: f'data-label-id="{ids.get(match[1], 0)}"', label.svg)


def project_json(world: World, project: Project) -> Json:
    tasks = world.tasks_of(project)
    return {
        "url": url(world, f"projects/{project.id}"),
        "id": project.id,
        "name": project.name,
        "owner": user_json(world, project.owner_id),
        "assignee": user_json(world, project.assignee_id),
        "guide_id": None,
        "bug_tracker": project.bug_tracker,
        "created_date": stamp(project.created_date),
        "updated_date": stamp(project.updated_date),
        "status": project.status,
        "dimension": next((task.dimension for task in tasks if task.dimension), None),
        "organization": project.organization_id,
        "organization_id": project.organization_id,
        "target_storage": None,
        "source_storage": None,
        "tasks": {"count": len(tasks), "url": url(world, f"tasks?project_id={project.id}")},
        "labels": {"url": url(world, f"labels?project_id={project.id}")},
        "assignee_updated_date": stamp(project.assignee_updated_date),
        "task_subsets": sorted({task.subset for task in tasks if task.subset}),
    }


def task_json(world: World, task: Task, viewer: Viewer | None = None) -> Json:
    """A task; without data it has no size, no chunk fields and `data` null, as on the real server."""
    project = world.project_of(task)
    hidden = viewer is not None and project is not None and not viewer.views(project)
    body: Json = {
        "url": url(world, f"tasks/{task.id}"),
        "id": task.id,
        "name": task.name,
        "project_id": task.project_id,
        "project_name": None if project is None or hidden else project.name,
        "owner": user_json(world, task.owner_id),
        "assignee": user_json(world, task.assignee_id),
        "bug_tracker": task.bug_tracker,
        "created_date": stamp(task.created_date),
        "updated_date": stamp(task.updated_date),
        "overlap": task.overlap,
        "segment_size": task.segment_size,
        "status": task.status,
    }
    return body | _data_fields(task) | _task_rest(world, task)


def _data_fields(task: Task) -> Json:
    common: Json = {"dimension": task.dimension, "mode": task.mode, "media_type": task.media_type}
    if task.data_id is None:
        return {"guide_id": None, "data": None} | common
    known: Json = {"data_cloud_storage_id": None, "guide_id": None, "size": task.size, "data": task.data_id}
    if task.frames:
        chunks = {"data_chunk_size": task.chunk_size, "image_quality": task.image_quality}
        kinds = {"data_original_chunk_type": "imageset", "data_compressed_chunk_type": "imageset"}
        known = chunks | kinds | known
    return known | common


def _task_rest(world: World, task: Task) -> Json:
    jobs = [job for job in world.jobs_of(task) if job.type == "annotation"]
    return {
        "subset": task.subset,
        "organization_id": task.organization_id,
        "organization": task.organization_id,
        "target_storage": None,
        "source_storage": None,
        "jobs": {
            "count": len(jobs),
            "completed": sum(job.stage == "acceptance" and job.state == "completed" for job in jobs),
            "validation": sum(job.stage == "validation" for job in jobs),
            "url": url(world, f"jobs?task_id={task.id}"),
        },
        "labels": {"url": url(world, f"labels?task_id={task.id}")},
        "assignee_updated_date": stamp(task.assignee_updated_date),
        "validation_mode": task.validation_mode,
        "consensus_enabled": False,
    }


def job_json(world: World, job: Job, viewer: Viewer | None = None) -> Json:
    """A job; task_name and project_name are null where the viewer may not see these."""
    task = world.task_of(job)
    project = world.project_of(task)
    return {
        "url": url(world, f"jobs/{job.id}"),
        "id": job.id,
        "task_id": task.id,
        "task_name": task.name if viewer is None or viewer.views(task) else None,
        "project_id": task.project_id,
        "project_name": project.name if project and (viewer is None or viewer.views(project)) else None,
        "assignee": user_json(world, job.assignee_id),
        "guide_id": None,
        "dimension": task.dimension,
        "mode": task.mode,
        "media_type": task.media_type,
        "bug_tracker": task.bug_tracker or (project.bug_tracker if project else ""),
        "status": job.status,
        "stage": job.stage,
        "state": job.state,
        "frame_count": len(job.frame_numbers),
        "start_frame": job.start_frame,
        "stop_frame": job.stop_frame,
        "data_chunk_size": task.chunk_size,
        "data_compressed_chunk_type": "imageset",
        "data_original_chunk_type": "imageset",
        "created_date": stamp(job.created_date),
        "updated_date": stamp(job.updated_date),
        "issues": {"url": url(world, f"issues?job_id={job.id}"), "count": 0},
        "labels": {"url": url(world, f"labels?job_id={job.id}")},
        "type": job.type,
        "organization": task.organization_id,
        "target_storage": None,
        "source_storage": None,
        "assignee_updated_date": stamp(job.assignee_updated_date),
        "parent_job_id": job.parent_job_id,
        "replicas_count": 0,
        "consensus_replicas": 0,
    }


def request_json(world: World, one: Request) -> Json:
    """A background request; its result_url is absolute and percent-encoded."""
    return {
        "status": one.status,
        "message": one.message,
        "id": one.id,
        "operation": {
            "type": one.type,
            "target": one.target,
            "project_id": one.project_id,
            "task_id": one.task_id,
            "job_id": one.job_id,
            "org_id": one.organization_id,
            "format": one.format,
            "lightweight": None,
        },
        "progress": 0.0,
        "created_date": stamp(one.created_date),
        "started_date": stamp(one.started_date),
        "finished_date": stamp(one.finished_date),
        "expiry_date": stamp(one.expiry_date),
        "owner": {"id": one.owner_id, "username": world.users[one.owner_id].username},
        "result_url": f"{url(world, one.result_url)}?rq_id={quote(one.id, safe='~')}" if one.result_url else None,
        "result_id": None,
    }
