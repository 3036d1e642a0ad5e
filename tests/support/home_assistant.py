"""Home Assistant itself, with its MQTT integration and some automations, for `test_homeassistant.py`.

Runs on Home Assistant's own Python: `python -c SOURCE PORT`, with the automations as a line of JSON on
standard input. After it each line is a command in JSON, and each is answered by a line of JSON:

{"wait": ENTITY, "state": STATE}    waits for it (null: until there is none); the state's attributes
{"call": ACTION, "entity": ENTITY}  calls an action such as switch.turn_off; null
{"set": ENTITY, "state": STATE}     makes up an entity of another integration, or changes it; null
{"entities": true}                  the state of each entity
{"notified": COUNT}                 waits for so many calls of notify.notify; their messages
"""

import asyncio
import inspect
import json
import logging
import sys
import tempfile
from pathlib import Path

from homeassistant import bootstrap, config_entries, core, loader
from homeassistant.const import MAJOR_VERSION, MINOR_VERSION
from homeassistant.setup import async_setup_component

WAIT = 120.0


def mqtt_entry(port):
    fields = {
        "domain": "mqtt", "title": "", "data": {"broker": "127.0.0.1", "port": port}, "options": {},
        "version": 1, "minor_version": 1, "source": "user", "unique_id": None,
        "discovery_keys": {}, "subentries_data": None,
    }  # fmt: skip
    known = inspect.signature(config_entries.ConfigEntry).parameters
    return config_entries.ConfigEntry(**{name: value for name, value in fields.items() if name in known})


async def main():
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    automations = json.loads(await lines.readline())
    folder = tempfile.mkdtemp()
    Path(folder, "configuration.yaml").touch()
    hass = core.HomeAssistant(folder)
    hass.config.skip_pip = True
    loader.async_setup(hass)
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    await bootstrap.async_load_base_functionality(hass)
    hass.config.components |= {"http", "file_upload"}  # its dialogs would need them
    hass.set_state(core.CoreState.running)
    changed = asyncio.Condition()
    notified = []

    async def tell(event):
        async with changed:
            changed.notify_all()

    async def notify(call):
        notified.append(call.data["message"])
        await tell(None)

    hass.bus.async_listen(core.EVENT_STATE_CHANGED, tell)
    hass.services.async_register("notify", "notify", notify)
    await hass.config_entries.async_add(mqtt_entry(int(sys.argv[1])))
    assert await async_setup_component(hass, "automation", {"automation": automations})

    async def until(wanted):
        async with changed:
            await asyncio.wait_for(changed.wait_for(wanted), WAIT)

    async def wait(entity, state):
        def found():
            now = hass.states.get(entity)
            return now.state if now else None

        try:
            await until(lambda: found() == state)
        except TimeoutError:
            return f"expected {state}, got {found()}"
        return dict(hass.states.get(entity).attributes) if state else None

    async def messages(count):
        try:
            await until(lambda: len(notified) >= count)
        except TimeoutError:
            logging.error("expected %d messages, got %s", count, notified)
        return notified

    print(json.dumps([MAJOR_VERSION, MINOR_VERSION]), flush=True)
    while line := await lines.readline():
        command, answer = json.loads(line), None
        if "wait" in command:
            answer = await wait(command["wait"], command["state"])
        elif "call" in command:
            domain, action = command["call"].split(".")
            await hass.services.async_call(domain, action, {"entity_id": command["entity"]}, blocking=True)
        elif "set" in command:
            hass.states.async_set(command["set"], command["state"])
        elif "entities" in command:
            answer = {state.entity_id: state.state for state in hass.states.async_all()}
        elif "notified" in command:
            answer = await messages(command["notified"])
        print(json.dumps(answer, default=str), flush=True)
    await hass.async_stop(force=True)


logging.basicConfig(level=logging.WARNING)
asyncio.run(main())
