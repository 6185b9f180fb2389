export async function demo(_c: unknown): Promise<void> {}
