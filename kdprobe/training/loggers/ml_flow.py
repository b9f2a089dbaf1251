"""MLflow, in a database of the run's own unless the environment names a server."""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdprobe.errors import ConfigError
from kdprobe.training.loggers.run_id import run_id

_TAG = "kdprobe.run"
_MOST_PARAMETERS = 100  # in one call
_LONGEST = 500  # characters of a parameter, which every store takes


class MLflow:
    """A run in `mlflow.db` in the run folder, or wherever `MLFLOW_TRACKING_URI` says.

    A resumed run goes on with its run of MLflow, and each epoch is there once: what is stored already is left out.

    Raises:
        ConfigError: if MLflow is not installed.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        try:
            import mlflow
            import sqlalchemy  # noqa: F401  mlflow-skinny comes without
        except ImportError as error:
            raise ConfigError("MLflow is not installed: pip install 'kdprobe[mlflow]'") from error
        self._mlflow, self._folder, self._settings = mlflow, folder, settings
        self._client: Any = None
        self._run = ""
        self._logged: set[int] = set()

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Store an epoch's metrics, all or none; the first one opens the run."""
        if self._client is None:
            self._open()
        if step not in self._logged:
            entity, now = self._mlflow.entities.Metric, int(1000 * time.time())
            metrics = [entity(name, value, now, step) for name, value in values.items()]
            self._client.log_batch(self._run, metrics=metrics)
            self._logged.add(step)

    def _open(self) -> None:
        """Find the run, or begin it."""
        database = f"sqlite:///{(self._folder / 'mlflow.db').resolve()}"
        self._client = self._mlflow.MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or database)
        experiment = self._experiment()
        name = run_id(self._folder)
        found = self._client.search_runs([experiment], f"tags.`{_TAG}` = '{name}'")
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            self._logged = {one.step for one in self._client.get_metric_history(self._run, "loss")}
            return
        tags = {_TAG: name}
        self._run = self._client.create_run(experiment, tags=tags, run_name=self._folder.resolve().name).info.run_id
        parameters = [*self._parameters()]
        for start in range(0, len(parameters), _MOST_PARAMETERS):
            self._client.log_batch(self._run, params=parameters[start : start + _MOST_PARAMETERS])

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "kdprobe")
        if (found := self._client.get_experiment_by_name(name)) is not None:
            return str(found.experiment_id)
        local = not os.environ.get("MLFLOW_TRACKING_URI")
        place = (self._folder / "mlflow-artifacts").resolve().as_uri() if local else None
        return str(self._client.create_experiment(name, artifact_location=place))

    def _parameters(self) -> Iterator[Any]:
        for key, value in self._settings.items():
            yield self._mlflow.entities.Param(key, str(value)[:_LONGEST])

    def close(self) -> None:
        """Mark the run as ended."""
        if self._client is not None:
            self._client.set_terminated(self._run)
