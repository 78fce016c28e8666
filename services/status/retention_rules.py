"""Retention rules: how long files are kept. `commands/retention.py` applies them."""

from pydantic import BaseModel, ConfigDict, Field

from services.status.projection.projection import Status


class Rule(BaseModel):
    """Sets how long files are kept: all files, or those that match the filters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: float = Field(ge=0, description="Days to keep a file after its upload.")
    tenant: str | None = Field(default=None, description="Only files of this tenant.")
    owner: str | None = None
    label: str | None = Field(default=None, pattern=r"^[^:]+:", description="`key:value`")

    def is_for(self, status: Status) -> bool:
        """Return True if the rule applies to the file."""
        return (
            self.tenant in (None, status.tenant)
            and self.owner in (None, status.owner)
            and (self.label is None or status.has_label(self.label))
        )
