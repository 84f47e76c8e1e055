"""The scripts that made ``explorer/zoo``, end to end: ``python -m training STAGE``.

Stages, in order: ``data``, ``pretrain``, ``finetune``, ``tangent``, ``evaluate``, ``pack``; for
the diffusion models ``diffusion`` and ``diffusion_pack``. Each one is deterministic from its seeds,
resumable, and reads only what the stages before it wrote to the work folder (``--work``, default
``build/training``). Nothing here is imported by ``explorer``.
"""
