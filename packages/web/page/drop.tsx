/** Where files are dropped, or chosen. */
import { useEffect, useState } from 'preact/hooks';

interface DropProps {
  onFiles(files: readonly File[]): void;
  /** A model is open already. */
  small: boolean;
  busy: string | undefined;
}

export function Drop({ onFiles, small, busy }: DropProps) {
  const [isOver, setOver] = useState(false);
  // Anywhere on the page: a file that misses its place would take the page's.
  useEffect(() => {
    const over = (event: DragEvent) => {
      event.preventDefault();
      setOver(event.type === 'dragover');
    };
    const drop = async (event: DragEvent) => {
      over(event);
      onFiles(await filesIn(event.dataTransfer!));
    };
    const handlers = Object.entries({ dragover: over, dragleave: over, drop }) as [string, EventListener][];
    for (const [name, handler] of handlers) addEventListener(name, handler);
    return () => {
      for (const [name, handler] of handlers) removeEventListener(name, handler);
    };
  }, [onFiles]);
  return (
    <section class={`drop${small ? ' small' : ''}${isOver ? ' over' : ''}`}>
      <p>
        {small ? 'Another model: drop' : 'Drop'} a checkpoint’s folder here, or its files: <code>config.json</code>,{' '}
        <code>model.safetensors</code>, <code>tokenizer.json</code>.
      </p>
      {!small && <p>They stay on this computer.</p>}
      <label class="button">
        Choose files
        <input
          type="file"
          multiple
          onChange={(event) => {
            const { files } = event.currentTarget;
            if (files && files.length > 0) onFiles([...files]);
          }}
        />
      </label>
      <p role="status">{busy}</p>
    </section>
  );
}

/** The files that are dropped, and those of a dropped folder. */
async function filesIn(dropped: DataTransfer): Promise<File[]> {
  const entries = [...dropped.items].map((item) => item.webkitGetAsEntry());
  const folders = entries.filter((entry): entry is FileSystemDirectoryEntry => entry?.isDirectory === true);
  const inFolders = await Promise.all(folders.map(filesOfFolder));
  return [...[...dropped.files].filter(({ name }) => !folders.some((one) => one.name === name)), ...inFolders.flat()];
}

async function filesOfFolder(folder: FileSystemDirectoryEntry): Promise<File[]> {
  const reader = folder.createReader();
  const files: File[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return files;
    for (const entry of some) {
      if (entry.isFile)
        files.push(await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject)));
    }
  }
}
