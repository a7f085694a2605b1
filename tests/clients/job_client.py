"""Makes, shows and cancels jobs with the unmodified `azure-iot-hub`, in its own environment;
prints what each call gave as JSON. Its order comes as JSON on stdin.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.iot.hub import IoTHubJobManager
from azure.iot.hub.models import (
    CloudToDeviceMethod,
    JobRequest,
    Twin,
    TwinProperties,
)


def shown(job: Any) -> list[Any]:
    counted = job.device_job_statistics
    return [
        job.job_id,
        job.type,
        job.status,
        [counted.device_count, counted.succeeded_count, counted.failed_count],
    ]


def main() -> None:
    order = json.load(sys.stdin)
    manager = IoTHubJobManager.from_connection_string(order["connectionString"])

    def until_over(job_id: str) -> Any:
        while True:
            job = manager.get_scheduled_job(job_id)
            if job.status not in ("scheduled", "queued", "running"):
                return job
            time.sleep(0.05)

    twin = Twin(
        etag="*", tags={"site": "plant"}, properties=TwinProperties(desired={"interval": 5})
    )
    method = CloudToDeviceMethod(method_name="reboot", payload={"delay": 3})
    where = "deviceId IN ['dev-1', 'dev-2']"
    made = manager.create_scheduled_job(
        "twins",
        JobRequest(
            job_id="twins",
            type="scheduleUpdateTwin",
            update_twin=twin,
            query_condition=where,
            start_time=datetime.now(UTC),
            max_execution_time_in_seconds=60,
        ),
    )
    manager.create_scheduled_job(
        "methods",
        JobRequest(
            job_id="methods",
            type="scheduleDeviceMethod",
            cloud_to_device_method=method,
            query_condition="*",
        ),
    )
    manager.create_scheduled_job(
        "later",
        JobRequest(
            job_id="later",
            type="scheduleUpdateTwin",
            update_twin=twin,
            query_condition="*",
            start_time=datetime.now(UTC) + timedelta(hours=1),
        ),
    )
    later = manager.get_scheduled_job("later")
    cancelled = manager.cancel_scheduled_job("later")
    json.dump(
        [
            shown(made)[:2],
            shown(until_over("twins")),
            shown(until_over("methods")),
            shown(later),
            shown(cancelled),
        ],
        sys.stdout,
    )


main()
